"""From a model and its data to compiled functions of its training, and the checks before."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_extras._core.differentiation import value_and_gradients
from keras_extras.autodiff.second_derivatives import check_model
from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches, constant
from keras_extras.unrolled.checkpoints import CheckpointedPath
from keras_extras.unrolled.compiled_training import CompiledTraining
from keras_extras.unrolled.differentiability import check_data_gradient, check_gradients_exist
from keras_extras.unrolled.exact_reversal import ReversiblePath
from keras_extras.unrolled.exact_reversal_in_one_loop import ReversiblePathInOneLoop
from keras_extras.unrolled.training_path import TrainingPath
from keras_extras.unrolled.training_step import TrainingStep


def check_step(
    step: TrainingStep, model: keras.Model, statistics: Sequence[keras.Variable], data: Batches
) -> None:
    """Raises if a step on two rows cannot be differentiated, and names what stops it.

    Args:
        step: The `TrainingStep`.
        model: Its model.
        statistics: List of the variables that a call in training updates.
        data: The training data.
    """
    x, y = keras.tree.map_structure(lambda t: t[:2], (data.x, data.y))
    weights, moving = (list(map(constant, v)) for v in (model.trainable_variables, statistics))
    values = {h.name: ops.convert_to_tensor(h.start, step.dtype) for h in step.hyperparameters}
    first = Batches(x, y, data.order[:1] * 0)
    at = step.values_at(values, 0, first.order[0])
    _, gradients, _ = backend.tried(lambda: step.gradients(0, weights, moving, at, first))
    check_gradients_exist(model, model.trainable_variables, gradients, x)
    for name in {"x", "y"} & set(at):

        def loss_of(values, name=name):
            return step.gradients(0, weights, moving, {**at, name: values[0]}, first)[0]

        def gradient(name=name, loss_of=loss_of):
            return value_and_gradients(loss_of, [at[name]])[1][0]

        check_data_gradient(name, backend.tried(gradient))
    check_model(
        model,
        lambda weights: step.gradients(0, weights, moving, at, first)[1],
        weights,
        x,
        training=True,
    )


def compiled_training(
    step: TrainingStep, steps: int, memory: str, truncate: int | None, jit_compile: bool
) -> CompiledTraining:
    """Returns the compiled functions of a training.

    Args:
        step: The `TrainingStep`.
        steps: Integer, how many.
        memory: `"all"`, `"checkpoints"` or `"reversal"`.
        truncate: Integer, how many steps the way back has; `None` for all.
        jit_compile: Boolean, whether to compile with XLA.
    """
    path: TrainingPath
    if memory != "reversal":
        path = CheckpointedPath(step, steps, memory == "all", jit_compile, truncate or steps)
    elif backend.BLOCKS_ROUND_ALIKE:
        path = ReversiblePath(step, steps, jit_compile)
    else:
        path = ReversiblePathInOneLoop(step, steps, jit_compile)
    return CompiledTraining(step, path, jit_compile)
