"""StepCompilation: XLA for the steps of a search, once they have cost more than compiling does."""

import contextlib
import logging
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_extras._core.optimizers import optimizer_of
from keras_extras._seams.compile_arguments import leaves_compilation_open, remember_jit_compile
from keras_extras._seams.fit_arguments import surround_fit
from keras_extras.optimizers.replicas import has_no_strategy

_LOGGER = logging.getLogger("keras_extras")

# In the unit of `work_per_update`, what compiling costs.
_OF_COMPILING = 20e9
# A `fit` that is to go on for so many times what compiling costs begins with it.
_MANY_TIMES = 10
# Which XLA computes several times slower than TensorFlow on a CPU, when mapped over candidates.
_SLOW = {
    *("Conv1D", "Conv2D", "Conv3D", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    *("DepthwiseConv2dNative", "SelfAdjointEigV2", "Svd"),
}
# So are random numbers, of which few matter little.
_MANY_DRAWS = 100_000
# Of `fit`.
_DEFAULT_BATCH_SIZE = 32


class StepCompilation:
    """Compiles the steps of a model's `fit` when they have cost what compiling costs.

    Keras leaves XLA off on a CPU, because compiling takes seconds. Steps start as a plain graph.
    When is known from the count of updates alone, so that seeded runs are reproducible and one
    that goes on from a backup ends as if it had not been interrupted.

    Compiled are batches of the largest number of rows so far. Others, such as a smaller last one of
    an epoch, would be compiled for themselves; they run as the plain graph. A `fit` that ends
    before compiling pays has nothing but the plain graph, which takes less time to trace.

    Args:
        model: The model.
        optimizer: Its optimizer. Its `work_per_update` is a method that returns how much an update
            saves by compilation, in numbers computed, 0 if that is unknown; or it is `None`.
    """

    def __init__(self, model: keras.Model, optimizer: Any):
        self._model, self._optimizer = weakref.ref(model), weakref.ref(optimizer)
        self._executions_left = 0
        self._is_plain = False
        self._traced: list[tuple[Any, list[Any]]] = []
        self.state = _given_state(model, optimizer)
        self._is_waiting = not self.state
        if self._is_waiting:
            import tensorflow as tf

            with tf.init_scope():
                self._is_on = tf.Variable(False, trainable=False)
                self._rows = tf.Variable(0, trainable=False)

    def traced(self, step: Callable[[Any], Any], data: Any) -> Any:
        """Returns `step(data)` in the graph that is being traced, compiled or not.

        Args:
            step: Function from a batch to logs.
            data: A batch, a structure of tensors.
        """
        if not self._is_waiting and not self._traced:
            return step(data)
        import tensorflow as tf

        leaves = keras.tree.flatten(data)
        tensors = [leaf for leaf in leaves if leaf is not None]
        if not all(map(_has_one_shape, tensors)):
            if self._is_waiting:
                self._give_up("shapes of batches are not known")
            return step(data)

        def on_tensors(*tensors):
            values = iter(tensors)
            filled = [None if leaf is None else next(values) for leaf in leaves]
            return step(keras.tree.pack_sequence_as(data, filled))

        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
        plain = tf.function(on_tensors, autograph=False).get_concrete_function(*specs)
        optimizer: Any = self._optimizer()
        if self._is_waiting and not optimizer.work_per_update():
            self._give_up("candidates are evaluated one after another")
        elif self._is_waiting and self._is_short():
            self._is_plain = True
        if self._is_plain or not (self._is_waiting or self._traced):
            return plain(*tensors)
        # Not part of the graph around it: what is not called would be gone through in each step.
        apart = {"autograph": False, "experimental_attributes": {"_noinline": True}}
        as_it_is = tf.function(lambda *tensors: plain(*tensors), **apart)
        compiled = tf.function(lambda *tensors: plain(*tensors), autograph=False, jit_compile=True)
        self._traced.append((plain, specs))
        rows = tf.stack([tf.shape(tensor)[0] for tensor in tensors])
        self._rows.assign(tf.maximum(self._rows, tf.reduce_max(rows)))
        is_compiled = self._is_on & tf.reduce_all(rows == self._rows)
        return tf.cond(is_compiled, lambda: compiled(*tensors), lambda: as_it_is(*tensors))

    def before_fit(self) -> None:
        """Counts updates again at the next execution: a backup may change their number."""
        self._executions_left = 0
        if self._is_plain and not self._is_short():
            model: Any = self._model()
            model.train_function = None  # Traced again, to be compiled later.

    def before_execution(self) -> None:
        """Called before each execution of steps; turns compilation on when it is time."""
        if not self._is_waiting or not self._traced:
            return
        self._executions_left -= 1
        if self._executions_left >= 0:
            return
        model: Any = self._model()
        optimizer: Any = self._optimizer()
        needed, done = self._updates()
        if done >= needed or optimizer.planned_updates >= _MANY_TIMES * needed:
            self._turn_on(model, done)
            return
        updates = model.steps_per_execution * optimizer.generations_per_batch
        self._executions_left = math.ceil((needed - done) / updates) - 1

    def _updates(self):
        """The updates after which compiling pays, and those that were made."""
        import tensorflow as tf

        optimizer: Any = self._optimizer()
        with tf.init_scope():
            done = int(optimizer.iterations.numpy())
        return math.ceil(_OF_COMPILING / optimizer.work_per_update()), done

    def _is_short(self):
        """Whether the `fit` that runs ends before compiling pays, as far as is known."""
        needed, done = self._updates()
        planned = self._optimizer().planned_updates
        return 0 < planned < needed - done

    def _turn_on(self, model, done):
        if not _allows_compilation(model):
            self._give_up("Keras compiles no model with such layers")
            return
        slow = set().union(*(_slow_operations(plain) for plain, _ in self._traced))
        if slow and not _has_accelerator():
            self._give_up(f"{min(slow)} is slower so on a CPU")
            return
        rows = int(self._rows.numpy())
        for plain, specs in self._traced:
            try:
                _lower(plain, specs, rows)
            except Exception as error:
                self._give_up("it has no instructions for some operation", error)
                return
        self._is_waiting = False
        self._is_on.assign(True)
        self.state = f"compiled by XLA after {done:,} update{'s' * (done != 1)}"
        _LOGGER.info("Steps of %s are compiled by XLA from here on.", self._optimizer().name)

    def _give_up(self, reason, error=""):
        self._is_waiting = False
        self.state = f"not compiled by XLA: {reason}"
        cause = str(error).strip().split("\n")[0]
        _LOGGER.info("Steps of %s are %s. %s", self._optimizer().name, self.state, cause)


def learn_planned_updates() -> None:
    """Lets every later `fit` give searches the number of updates that it is to make."""
    remember_jit_compile()
    surround_fit(__name__, _around_fit)


@contextlib.contextmanager
def _around_fit(model, arguments) -> Iterator[None]:
    optimizer = optimizer_of(model)
    if not hasattr(optimizer, "planned_updates"):
        yield
        return
    steps = arguments["steps_per_epoch"] or _batches(**arguments)
    updates = steps * arguments["epochs"] * optimizer.generations_per_batch
    optimizer.planned_updates = updates
    try:
        yield
    finally:
        optimizer.planned_updates = 0


def _batches(x, batch_size, validation_split, **_):
    """The batches of an epoch of `fit`, 0 if unknown."""
    if hasattr(x, "cardinality"):  # tf.data.Dataset
        return max(0, int(x.cardinality()))
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches or 0
    leaves = [leaf for leaf in keras.tree.flatten(x) if getattr(leaf, "shape", ())]
    rows = leaves[0].shape[0] * (1 - (validation_split or 0.0)) if leaves else 0
    return math.ceil(rows / (batch_size or _DEFAULT_BATCH_SIZE))


def _given_state(model, optimizer):
    """Returns the state that `compile` has set, or `""` if it is not decided yet."""
    if keras.backend.backend() == "jax" or optimizer.work_per_update is None:
        return "compiled as `compile` says"
    if model.run_eagerly:
        return "run eagerly"
    if model.jit_compile:
        return "compiled by XLA"
    if not leaves_compilation_open(model):
        return "not compiled by XLA: jit_compile=False"
    if not has_no_strategy(model):
        return "not compiled by XLA: a strategy of tf.distribute"
    return ""


def _allows_compilation(model):
    """Whether Keras would compile a model if asked to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.jit_compile = True
    is_allowed = model.jit_compile
    model.jit_compile = False
    return is_allowed


def _has_accelerator():
    import tensorflow as tf

    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def _slow_operations(concrete):
    """The types of operations of a graph, or of functions that it calls, that XLA is slower at."""
    graph = concrete.graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    draws = {
        operation.type
        for operation in concrete.graph.get_operations()
        if operation.type.startswith("StatelessRandom")
        and (operation.outputs[0].shape.num_elements() or 0) > _MANY_DRAWS
    }
    return draws | ({node.op for body in bodies for node in body} & _SLOW)


def _has_one_shape(leaf):
    """Whether all dimensions of a tensor but the first are known, and XLA has its type."""
    import tensorflow as tf

    return (
        isinstance(leaf, tf.Tensor)
        and leaf.dtype != tf.string
        and leaf.shape.rank
        and leaf.shape[1:].is_fully_defined()
    )


def _lower(plain, specs, rows):
    """Raises if XLA has no instructions for an operation."""
    import tensorflow as tf

    compiled = tf.function(lambda *tensors: plain(*tensors), autograph=False, jit_compile=True)
    specs = [tf.TensorSpec((rows, *spec.shape[1:]), spec.dtype) for spec in specs]
    compiled.experimental_get_compiler_ir(*specs)(stage="hlo")
