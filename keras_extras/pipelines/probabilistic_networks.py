"""The networks that probabilistic estimators train, kept so that later fits compile nothing."""

import functools
import threading
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_extras import layers
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.inference.weight_function import WeightFunction
from keras_extras.pipelines.members import Members
from keras_extras.pipelines.ordered_batches import batches_in_order, ordered_batches, row_order

METHODS = (
    "ensemble",
    "flipout",
    "local_reparameterization",
    "mc_dropout",
    "laplace",
    "nuts",
    "mclmc",
)
# Those of Markov chains, with the names of their kernels.
CHAINS = ("nuts", "mclmc")
# Those whose layers draw at random.
RANDOM_METHODS = ("flipout", "local_reparameterization", "mc_dropout")
# Steps of training in one call of the compiled function.
_STEPS_PER_EXECUTION = 32
# How often a training looks at held-out rows.
_CHECKS = 20

# One network serves all estimators like it, one after the other.
TRAINING = threading.Lock()


class NetworkSpec(NamedTuple):
    """The settings that set networks apart."""

    method: str
    num_inputs: int
    num_outputs: int
    is_classifier: bool
    hidden_units: tuple[int, ...]
    activation: str
    constant_noise: bool
    dropout_rate: float
    prior_stddev: float
    num_members: int
    precision: tuple[str, str]


class TrainableNetwork(NamedTuple):
    """A network, as a function of its weights, and its copies that are trained."""

    network: keras.Model
    function: WeightFunction
    members: Members
    prior: Any
    initial_state: list[np.ndarray]


@serializable
class ConstantScale(keras.layers.Layer):
    """Appends raw scales that do not depend on the inputs: noise that is the same everywhere."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.raw_scale = self.add_weight(
            name="raw_scale",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(-0.5),
        )

    def call(self, inputs: Any) -> Any:
        raw_scale = keras.ops.broadcast_to(self.raw_scale, keras.ops.shape(inputs))
        return keras.ops.concatenate([inputs, raw_scale], axis=-1)


@functools.lru_cache(maxsize=16)
def trainable_network(spec: NetworkSpec) -> TrainableNetwork:
    """Returns the network of a kind, made once."""
    network = make_network(spec)
    function = WeightFunction(network, np.zeros((1, spec.num_inputs), "float32"))
    has_own_priors = spec.method in ("flipout", "local_reparameterization")
    members = Members(function, spec.num_members, None if has_own_priors else spec.prior_stddev)
    members.compile(keras.optimizers.Adam(), steps_per_execution=_STEPS_PER_EXECUTION)
    members.optimizer.build(members.trainable_variables)
    initial_state = [np.asarray(variable) for variable in members.optimizer.variables]
    # Raw scales are logarithms where they are small, and need a wider prior.
    prior = {"*": tfd.Normal(0.0, spec.prior_stddev)}
    if spec.constant_noise and not spec.is_classifier:
        prior = {"*raw_scale": tfd.Normal(-1.0, 2.0), **prior}
    return TrainableNetwork(network, function, members, prior, initial_state)


def make_network(spec: NetworkSpec) -> keras.Model:
    """Returns a new network: a perceptron with a layer of distributions at its end."""
    prior = tfd.Normal(0.0, spec.prior_stddev)
    dense = {
        "flipout": functools.partial(layers.DenseFlipout, posterior="mean_field", prior=prior),
        "local_reparameterization": functools.partial(
            layers.DenseLocalReparameterization, posterior="mean_field", prior=prior
        ),
    }.get(spec.method, keras.layers.Dense)
    stack: list[keras.layers.Layer] = [keras.Input((spec.num_inputs,))]
    for units in spec.hidden_units:
        stack.append(dense(units, activation=spec.activation))
        if spec.method == "mc_dropout":
            stack.append(layers.MCDropout(spec.dropout_rate))
    if spec.is_classifier:
        stack += [dense(spec.num_outputs), layers.OneHotCategorical(spec.num_outputs)]
    elif spec.constant_noise:
        stack += [dense(spec.num_outputs), ConstantScale()]
    else:
        stack.append(dense(2 * spec.num_outputs))
    if not spec.is_classifier:
        stack.append(layers.IndependentNormal(spec.num_outputs))
    return keras.Sequential(stack)


class Rows(NamedTuple):
    """Rows of data, with weights whose sum is the number of rows that they stand for."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray

    def take(self, indices: np.ndarray) -> "Rows":
        return Rows(*(values[indices] for values in self))

    def counts(self) -> np.ndarray:
        """Returns how often each row is among them."""
        joined = np.concatenate([self.x, self.y], axis=1)
        _, inverse, counts = np.unique(joined, axis=0, return_inverse=True, return_counts=True)
        return counts[inverse.reshape(-1)]


class KeepBest(keras.callbacks.Callback):
    """Keeps the members of the epoch with the best loss of held-out rows, and stops after it.

    Args:
        patience: Integer, epochs without a better one after which training ends.
    """

    def __init__(self, patience: int):
        super().__init__()
        self.patience = patience
        self.best = np.inf
        self.epochs = 0
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        loss = (logs or {}).get("val_loss")
        if loss is None:
            return
        if loss < self.best or not self.weights:
            self.best, self.epochs = loss, epoch + 1
            self.weights = [np.asarray(stack) for stack in self.model.stacks]
        elif epoch + 1 - self.epochs >= self.patience:
            self.model.stop_training = True


def train(
    trainable: TrainableNetwork,
    rows: Rows,
    is_held_out: np.ndarray,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    verbose: int,
) -> list[np.ndarray]:
    """Trains all members from new initial weights in stock `fit`.

    Args:
        trainable: The network.
        rows: All rows.
        is_held_out: Boolean array of shape `(rows, members)`, the rows that each member does not
            train with. Their likelihood decides when to stop, for all members together.
        epochs: Integer, how many epochs to train at most; after these the learning rate is 0.
        batch_size, learning_rate, seed, verbose: As of the estimator.

    Returns:
        Arrays of shape `(members, *shape)`, in the order of the network's trainable variables.
    """
    members = trainable.members
    members.set_members(_initial_weights(trainable, seed))
    members.seed_generator.state.assign([seed, 0])
    for variable, value in zip(members.optimizer.variables, trainable.initial_state, strict=True):
        variable.assign(value)

    def cosine(epoch):
        return 0.5 * learning_rate * (1.0 + np.cos(np.pi * epoch / epochs))

    trained = _weighted(rows, ~is_held_out)
    generator = np.random.default_rng(seed)
    order = row_order(len(trained.x))

    def shuffle(epoch, logs):
        order.assign(generator.permutation(len(trained.x)))

    members.num_rows.assign(rows.weights @ ~is_held_out)
    callbacks = [
        keras.callbacks.LearningRateScheduler(cosine),
        keras.callbacks.LambdaCallback(on_epoch_begin=shuffle),
    ]
    validation = {}
    if is_held_out.any():
        keep_best = KeepBest(patience=max(5, epochs // 3))
        callbacks.append(keep_best)
        held_out = tuple(_weighted(rows, is_held_out))
        validation = {
            "validation_data": batches_in_order(held_out, 1024),
            "validation_freq": max(1, epochs // _CHECKS),
        }
    members.fit(
        ordered_batches(tuple(trained), batch_size, order),
        shuffle=False,  # That of `Dataset` depends on the global seed, too.
        epochs=epochs,
        callbacks=callbacks,
        verbose=verbose,
        **validation,
    )
    if validation and keep_best.weights:
        return keep_best.weights
    return [np.asarray(stack) for stack in members.stacks]


def _weighted(rows, is_chosen):
    """The rows that any member has chosen, with weights whose mean is 1 for each such member."""
    rows = rows._replace(weights=rows.weights[:, None] * is_chosen)
    rows = rows.take(is_chosen.any(axis=1))
    mean = rows.weights.mean(axis=0)
    return rows._replace(weights=(rows.weights / np.where(mean, mean, 1.0)).astype("float32"))


def _initial_weights(trainable, seed):
    """Initial weights of each member, from one seed: Keras' initializers follow the global one."""
    generator = np.random.default_rng(seed)
    num_members = trainable.members.stacks[0].shape[0]
    variables = trainable.function.variables
    return [[_initial(v.name, v.shape, generator) for v in variables] for _ in range(num_members)]


def _initial(name, shape, generator):
    """Initial weights: Glorot's uniform kernels, and narrow posteriors around them."""
    if name == "raw_scale":
        return np.full(shape, -0.5, "float32")
    if name.endswith("untransformed_scale"):
        return generator.normal(-3.0, 0.1, size=shape).astype("float32")
    limit = np.sqrt(6.0 / sum(shape)) if len(shape) > 1 else 0.0
    return generator.uniform(-limit, limit, size=shape).astype("float32")
