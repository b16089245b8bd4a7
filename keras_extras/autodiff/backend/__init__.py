"""What derivatives of models and trainings need beside `keras.ops`, on TensorFlow and on JAX.

| name | what it is |
|---|---|
| `compiled` | a function compiled for tensors of the shapes that it is called with |
| `block` | a part of such a function, which rounds alike wherever it stands |
| `vectorized` | a function of numbers, compiled for many of them at once |
| `while_loop` | a loop inside a compiled function |
| `Array` | tensors of one shape, written and read one by one in a loop |
| `gather`, `add_at` | read rows, and add to rows |
| `stored` | integers of 64 bits of tensors, and what computes with them |
| `dense` | a gradient as a tensor, where the backend has others |
| `is_traced` | whether a tensor belongs to a function that is being compiled |
"""

from typing import Any

from keras_extras._core.backend import backend_module


def __getattr__(name: str) -> Any:
    return getattr(backend_module(__name__, "keras_extras.autodiff"), name)
