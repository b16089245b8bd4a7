"""SWAG: a normal posterior from the weights that training passes through."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.batch_statistics import batch_statistics, renewed_statistics
from keras_extras._core.checks import check_choice, check_integer

# Of the size of the weights. Posteriors are wider, up to a hundred million rows.
_LEAST_SPREAD = 1e-4


class SWAG(keras.callbacks.Callback):
    """Collects weights in `fit`: a normal posterior with their mean and covariance.

    From `start_epoch` on snapshots of the weights are taken. A draw is

    ```
    w = mean + sqrt(variance / 2) z_1 + D z_2 / sqrt(2 (K - 1))
    ```

    with the mean and the variance of each weight over all snapshots, the columns of `D` the last
    `K` snapshots less the mean of those up to then, and `z_1`, `z_2` standard normal: half of the
    covariance is diagonal, half of low rank. Train until the loss has settled, then go on with SGD
    at a constant learning rate, whose noise is what is measured: for `n` rows in batches of `B`,
    drawn independently, and uncorrelated inputs of variance 1, posteriors of a linear model with a
    mean negative log-likelihood have the scale that `2 B / n` brings. Epochs take each row once,
    which cancels a part of the noise, and the noise does not follow correlations of inputs: in
    `benchmarks/posterior_certificates.py` standard deviations are up to 74 % too small.

    Rows must come in another order in each epoch. Keras on TensorFlow shuffles arrays alike in all
    epochs after `keras.utils.set_random_seed`, so that weights at the ends of epochs vary too
    little. A dataset has a new order in each:
    `tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(32)`.

    `inference.Posterior.from_callback(swag)` predicts with draws. `set_mean()` gives the model the
    mean, which is stochastic weight averaging. Both take the training inputs `x`, by which they
    renew moving statistics of `BatchNormalization`, for the mean or for each draw. Each
    `fit` starts without snapshots; `BackupAndResume(..., stateful=[swag])` keeps those of an
    interrupted one.

    References:
        Maddox et al. (2019), "A simple baseline for Bayesian uncertainty in deep learning",
        [arXiv:1902.02476](https://arxiv.org/abs/1902.02476).

    Args:
        start_epoch: Integer, epochs before the first that snapshots are taken in.
        every: Integer, a snapshot is taken every so many epochs or batches. Defaults to `1`.
        unit: String, `"epochs"` or `"batches"`. With `steps_per_execution`, batches are rounded up
            to whole executions. Defaults to `"epochs"`.
        rank: Integer of at least 2, the snapshots that are kept, the latest. Defaults to `20`.

    Attributes:
        num_collected: The number of snapshots that were taken.

    Raises:
        ValueError: In `fit`, if the trainable weights of the model change between snapshots; when
            asked for mean or draws, if there are fewer than 2 snapshots, or the model has
            `BatchNormalization` and `x` is missing.

    Warns:
        UserWarning: If weights are NaN or infinite, which are not collected; if `fit` ends with
            fewer than 2 snapshots or with equal ones, or begins after `start_epoch` without those
            taken before.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import inference, layers

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    ])
    model.compile(keras.optimizers.SGD(0.05), loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    swag = keras_extras.callbacks.SWAG(start_epoch=5)
    model.fit(x, 2.0 * x, epochs=15, callbacks=[swag], verbose=0)
    posterior = inference.Posterior.from_callback(swag, num_draws=20)
    posterior.predict_distribution(x).epistemic_variance()
    ```
    """

    def __init__(self, start_epoch: int, every: int = 1, unit: str = "epochs", rank: int = 20):
        super().__init__()
        self.start_epoch = check_integer("start_epoch", start_epoch, minimum=0)
        self.every = check_integer("every", every)
        self.unit = check_choice("unit", unit, ("epochs", "batches"))
        self.rank = check_integer("rank", rank, minimum=2)
        self._forget()

    def _forget(self):
        self.num_collected = 0
        self._passed = 0  # Epochs or batches since `start_epoch`.
        self._means: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []  # Sums of squared deviations.
        self._deviations: list[list[np.ndarray]] = []  # Of each snapshot that is kept.
        self._first_epoch: int | None = None
        self._is_collecting = self._has_warned = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._forget()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._first_epoch is None:
            self._first_epoch = epoch
            if epoch > self.start_epoch and not self._passed:
                warnings.warn(
                    f"SWAG collects from here on: `fit` begins with epoch {epoch}, after "
                    f"start_epoch={self.start_epoch}, and snapshots taken before are not known. "
                    "`BackupAndResume(..., stateful=[swag])` keeps them.",
                    stacklevel=2,
                )
        self._is_collecting = epoch >= self.start_epoch
        self._of_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.unit == "batches" and self._is_collecting:
            self._pass(batch + 1 - self._of_epoch)
            self._of_epoch = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.unit == "epochs" and self._is_collecting:
            self._pass(1)

    def on_train_end(self, logs: Any = None) -> None:
        if self.num_collected < 2:
            warnings.warn(
                f"SWAG needs 2 snapshots at least, but `fit` ended with {self.num_collected}: give "
                f"it more epochs than start_epoch={self.start_epoch}, or a smaller `every`.",
                stacklevel=2,
            )
        elif self._stands_still():
            warnings.warn(
                "SWAG collected snapshots that hardly differ, so that its posterior has no width. "
                "Train in batches whose rows change from epoch to epoch: all rows in one batch "
                "bring no noise, and Keras on TensorFlow shuffles arrays alike in all epochs after "
                "`keras.utils.set_random_seed`. Give `fit` a dataset, "
                "`tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(32)`.",
                stacklevel=2,
            )

    def _stands_still(self):
        spread = sum(np.sum(squares) for squares in self._squares) / self.num_collected
        return spread < _LEAST_SPREAD**2 * sum(np.sum(np.square(mean)) for mean in self._means)

    def _pass(self, count):
        """Counts epochs or batches, and takes a snapshot when one is due."""
        before, self._passed = self._passed, self._passed + count
        if self._passed // self.every > before // self.every:
            self._collect([ops.convert_to_numpy(v) for v in self.model.trainable_variables])

    def _collect(self, weights):
        weights = [weight.astype("float64") for weight in weights]
        if not all(np.isfinite(weight).all() for weight in weights):
            if not self._has_warned:
                self._has_warned = True
                warnings.warn("SWAG leaves out weights that are NaN or infinite.", stacklevel=2)
            return
        if not self.num_collected:
            self._means = [np.zeros_like(weight) for weight in weights]
            self._squares = [np.zeros_like(weight) for weight in weights]
        self._check_shapes(weights)
        self.num_collected += 1
        deviations = []
        for weight, mean, squares in zip(weights, self._means, self._squares):
            change = weight - mean
            mean += change / self.num_collected
            squares += change * (weight - mean)
            deviations.append((weight - mean).astype("float32"))
        self._deviations = [*self._deviations, deviations][-self.rank :]

    def _check_shapes(self, weights):
        known, received = ([part.shape for part in parts] for parts in (self._means, weights))
        if known != received:
            raise ValueError(
                "`SWAG` needs a model whose trainable weights stay the same between snapshots. "
                f"Received: weights of shapes {received}, after those of shapes {known}"
            )

    def mean(self) -> list[np.ndarray]:
        """Returns the mean of each trainable weight."""
        self._check_collected()
        return [mean.copy() for mean in self._means]

    def draw(self, num_draws: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Returns draws of the trainable weights.

        Args:
            num_draws: Integer.
            generator: `np.random.Generator`, what is drawn with.

        Returns:
            Arrays of shape `(num_draws, *shape)`, one for each trainable weight.
        """
        self._check_collected()
        kept = len(self._deviations)
        low_rank = generator.normal(size=(num_draws, kept)) / math.sqrt(2.0 * (kept - 1))
        drawn = []
        for mean, squares, *columns in zip(self._means, self._squares, *self._deviations):
            stddev = np.sqrt(squares / (2.0 * self.num_collected))
            noise = stddev * generator.normal(size=(num_draws, *mean.shape))
            drawn.append(mean + noise + np.tensordot(low_rank, np.stack(columns), 1))
        return drawn

    def set_mean(self, x: Any = None, batch_size: int = 256) -> None:
        """Gives the model the mean weights, and their moving statistics.

        Args:
            x: Training inputs, an array of shape `(n, ...)` or a structure of arrays, for models
                with `BatchNormalization`. Defaults to `None`.
            batch_size: Integer, rows of a batch whose statistics are taken. Defaults to `256`.
        """
        mean = self.mean()
        statistics = self.statistics([mean], x, batch_size)
        for variable, value in zip(self.model.trainable_variables, mean):
            variable.assign(value)
        for variable, (value,) in zip(batch_statistics(self.model), statistics):
            variable.assign(value)

    def statistics(self, draws: Any, x: Any = None, batch_size: int = 256) -> list[np.ndarray]:
        """Returns the moving statistics of `BatchNormalization` for several weights.

        Args:
            draws: List of lists of arrays, each like the trainable weights of the model.
            x: As of `set_mean`. Defaults to `None`.
            batch_size: As of `set_mean`. Defaults to `256`.

        Returns:
            Arrays with an entry for each of `draws`: the moving mean and variance of each layer.
        """
        self._check_shapes([ops.convert_to_numpy(v) for v in self.model.trainable_variables])
        if not batch_statistics(self.model):
            return []
        if x is None:
            raise ValueError(
                f"The model {self.model.name!r} has BatchNormalization, whose moving statistics "
                "must be renewed for other weights: give `x`, the training inputs. "
                "Received: x=None"
            )
        found = [renewed_statistics(self.model, weights, x, batch_size) for weights in draws]
        return [np.stack(values) for values in zip(*found)]

    def _check_collected(self):
        if self.num_collected < 2:
            raise ValueError(
                "`SWAG` needs 2 snapshots at least: train with it in `callbacks` of `fit`, for "
                f"more epochs than start_epoch={self.start_epoch}. "
                f"Received: {self.num_collected} snapshots"
            )

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns what was collected, as arrays by name."""
        arrays = {"counts": np.array([self.num_collected, self._passed])}
        groups = {"mean": self._means, "squares": self._squares}
        groups |= {f"deviation_{n}": parts for n, parts in enumerate(self._deviations)}
        return arrays | {f"{g}/{n}": v for g, parts in groups.items() for n, v in enumerate(parts)}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `get_state` returned."""
        self.num_collected, self._passed = map(int, state["counts"])

        def group(name):
            count = sum(key.startswith(f"{name}/") for key in state)
            return [np.array(state[f"{name}/{n}"]) for n in range(count)]

        self._means, self._squares = group("mean"), group("squares")
        kept = min(self.num_collected, self.rank)
        count = sum(key.startswith("deviation_") and key.endswith("/0") for key in state)
        self._deviations = [group(f"deviation_{n}") for n in range(count)][-kept:]
