"""The covariance of weights, accumulated over the rows of an epoch."""

import keras
import numpy as np
import scipy.linalg
from keras import ops

from keras_extras._core.backend import host_value, num_replicas
from keras_extras._core.epochs import accumulate_over_epochs
from keras_extras._core.training_set_size import (
    NAME,
    current_training_set_size,
    learn_training_set_size,
    require_known_size,
    sized,
)


class EpochCovariance:
    """The variables and methods of a layer that sums precisions over the rows of an epoch.

    The layer has the attributes `momentum` and `prior_stddev`.
    """

    name: str
    built: bool
    momentum: float
    prior_stddev: float

    def _accumulate_over_epochs(self):
        accumulate_over_epochs()
        if self._has_momentum:
            learn_training_set_size()

    @property
    def _has_momentum(self):
        return self.momentum >= 0.0

    @property
    def asks_for_training_set_size(self) -> bool:
        """Whether `fit` gives the number of rows to the layer."""
        return self._has_momentum

    def _build_covariance(self, add, size):
        """Adds the variables by a function of name and shape."""
        self.precision = add("precision", (size, size), aggregation="mean")
        self.num_steps = add("num_steps", (), dtype="float32", aggregation="only_first_replica")
        self.covariance_root = add("covariance_root", (size, size))
        self.covariance_steps = add("covariance_steps", (), dtype="float32")
        if self._has_momentum:
            known = keras.initializers.Constant(current_training_set_size())
            self.training_set_size = sized(add(NAME, (), known))

    def _add_to_precision(self, features):
        """Adds the rows of a batch, times the square root of their curvature."""
        added = ops.matmul(ops.transpose(features), features)
        if self._has_momentum:
            mean = added / ops.cast(ops.shape(features)[0], added.dtype)
            added = (1.0 - self.momentum) * (mean - self.precision)
        else:
            added = num_replicas() * added  # Their mean is assigned.
        self.precision.assign_add(added)
        self.num_steps.assign_add(1)

    def _is_current(self):
        """Whether the covariance is that of all steps, as a tensor."""
        steps = ops.convert_to_tensor(self.covariance_steps)
        return ops.logical_and(steps > 0, ops.equal(steps, self.num_steps))

    def begin_epoch(self) -> None:
        """Empties the sum over rows, except with momentum. `fit` calls it."""
        if self._has_momentum:
            self._check_training_set_size()
        else:
            self.precision.assign(ops.zeros(self.precision.shape, self.precision.dtype))
            self.num_steps.assign(0)

    def end_epoch(self) -> None:
        """Computes the covariance from the rows so far. `fit` calls it."""
        self._check_built()
        steps = int(host_value(self.num_steps))
        total = np.asarray(ops.convert_to_numpy(self.precision), "float64")
        if self._has_momentum and steps:
            self._check_training_set_size()
            share = 1.0 - self.momentum**steps  # of the batches, beside the start at zero
            total *= float(host_value(self.training_set_size)) / share
        total.flat[:: len(total) + 1] += self.prior_stddev**-2
        if np.isfinite(total).all():
            root = scipy.linalg.cholesky(total, lower=True, overwrite_a=True)
            root = scipy.linalg.solve_triangular(root, np.eye(len(root)), lower=True).T
        else:  # Training has diverged, which the loss shows.
            root = np.full_like(total, np.nan)
        self.covariance_root.assign(root)
        self.covariance_steps.assign(steps)

    def _check_training_set_size(self):
        require_known_size(self.training_set_size, f"Layer {self.name!r} with `momentum`")

    def check_current(self) -> None:
        """Raises if the covariance is not that of all rows since `begin_epoch`.

        Raises:
            ValueError: Without a training step, or after an interrupted epoch.
        """
        self._check_built()
        steps, of_covariance = (int(host_value(v)) for v in (self.num_steps, self.covariance_steps))
        if of_covariance == 0:
            raise ValueError(
                f"Layer {self.name!r} has no covariance yet. Train its model in `fit`; in a "
                "training loop of your own call `end_epoch()` of the layer after an epoch"
            )
        if steps != of_covariance:
            raise ValueError(
                f"The covariance of layer {self.name!r} is out of date, because an epoch was not "
                "completed. Train for a whole epoch, or call `end_epoch()` of the layer for the "
                "rows so far; in a training loop of your own call `begin_epoch()` before an epoch "
                "and `end_epoch()` after it. "
                f"Received: a covariance of {of_covariance} steps, and {steps} steps of training"
            )

    def _check_built(self):
        if not self.built:
            raise ValueError(f"Layer {self.name!r} has no weights yet. Call its model on data.")

    def covariance(self) -> np.ndarray:
        """Returns the covariance of `beta`, of shape `(num_features, num_features)`.

        Raises:
            ValueError: If it is not complete.
        """
        self.check_current()
        root = ops.convert_to_numpy(self.covariance_root)
        return root @ root.T
