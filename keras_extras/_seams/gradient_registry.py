"""Which operations of TensorFlow have a gradient.

Read is the registry of gradients in the private module `tensorflow.python.framework.ops`. The
public `tf.RegisterGradient` writes to it only. Known to hold since TensorFlow 2.21. A public way to
look one up would make it unnecessary.
"""

from tensorflow.python.framework import ops


def has_gradient(operation: str) -> bool:
    """Returns whether a type of operations has a gradient, and not one registered as none."""
    try:
        return ops.gradient_registry.lookup(operation) is not None
    except LookupError:
        return False
