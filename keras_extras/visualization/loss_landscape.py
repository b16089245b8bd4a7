"""LossLandscape: the loss over a plane of weights, and the paths of optimizers on it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.flat_vectors import split_entries
from keras_extras.visualization.figures import COLORS, make_axes

_MARGIN = 0.15
_NUM_LEVELS = 20


class LossLandscape:
    """The loss over a plane, with the paths that optimizers took to their minima.

    For a function of two numbers the plane is that of its arguments. For a model it is the plane
    in weight space that the paths spread in most: through the mean of all their points, along their
    first two principal components (Li et al., 2018, section 7). What lies off the plane is not
    seen: the loss at a point of a path is not that of the plane below it, and `explained_share`
    says how much of the paths' variance is in the plane.

    Make one with `from_function` or `from_model`. Contours are drawn at quantiles of the loss,
    most of them at low ones, so that narrow valleys show whatever the scale.

    Args:
        horizontal: Array of n coordinates.
        vertical: Array of m coordinates.
        losses: Array of shape (m, n), the loss at each pair of them.
        paths: Dict from names to arrays of shape (number of points, 2). Defaults to `None`.
        explained_share: Float, the share of the paths' variance that lies in the plane. Defaults
            to `1.0`.

    Raises:
        ValueError: If the shapes do not fit together, or no loss is finite.

    Example:

    ```python
    import numpy as np
    from keras_extras import visualization

    path = np.stack([0.9 ** np.arange(30), 0.5 ** np.arange(30)], axis=1)
    landscape = visualization.LossLandscape.from_function(
        lambda x, y: x**2 + 10 * y**2, paths={"descent": path}
    )
    figure = landscape.plot()
    ```

    References:
        - [Li et al., 2018, "Visualizing the Loss Landscape of Neural Nets"](
          https://arxiv.org/abs/1712.09913)
    """

    def __init__(
        self,
        horizontal: Any,
        vertical: Any,
        losses: Any,
        paths: Mapping[str, Any] | None = None,
        explained_share: float = 1.0,
    ):
        self.horizontal = np.asarray(horizontal, dtype="float64")
        self.vertical = np.asarray(vertical, dtype="float64")
        self.losses = np.asarray(losses, dtype="float64")
        expected = (*self.vertical.shape, *self.horizontal.shape)
        if self.losses.shape != expected or len(expected) != 2 or min(expected) < 2:
            raise ValueError(
                "`losses` must have shape (m, n) for `vertical` of m and `horizontal` of n "
                f"coordinates, two of each at least. Received: losses.shape={self.losses.shape}, "
                f"vertical.shape={self.vertical.shape}, horizontal.shape={self.horizontal.shape}"
            )
        if not np.isfinite(self.losses).any():
            raise ValueError("`losses` must hold finite numbers. Received: none that is finite")
        self.paths = {name: _points(name, path) for name, path in (paths or {}).items()}
        self.explained_share = explained_share

    @classmethod
    def from_function(
        cls,
        function: Callable[[Any, Any], Any],
        paths: Mapping[str, Any] | None = None,
        limits: Sequence[Sequence[float]] | None = None,
        resolution: int = 101,
    ) -> "LossLandscape":
        """Evaluates a function of two numbers on a grid.

        Args:
            function: From two arrays of the same shape to the losses of that shape.
            paths: Dict from names to arrays of shape (number of points, 2). Defaults to `None`.
            limits: `((left, right), (bottom, top))`; `None` for what holds all paths, with a
                margin. Defaults to `None`.
            resolution: Integer of at least 2, the points of the grid in each direction. Defaults
                to `101`.

        Returns:
            A `LossLandscape`.
        """
        resolution = check_integer("resolution", resolution, minimum=2)
        points = {name: _points(name, path) for name, path in (paths or {}).items()}
        if limits is None:
            if not points:
                raise ValueError(
                    "`limits` must be ((left, right), (bottom, top)) where there are no `paths`. "
                    "Received: limits=None"
                )
            limits = _limits_around(np.concatenate(list(points.values())))
        horizontal, vertical = (np.linspace(low, high, resolution) for low, high in limits)
        losses = function(*np.meshgrid(horizontal, vertical))
        return cls(horizontal, vertical, losses, points)

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        x: Any,
        y: Any,
        paths: Mapping[str, Sequence[Sequence[Any]]],
        resolution: int = 25,
    ) -> "LossLandscape":
        """Evaluates the loss of a compiled model on the plane that paths of its weights spread in.

        The model is evaluated `resolution ** 2` times on all rows, and has its weights back
        afterwards.

        Args:
            model: A built and compiled `keras.Model`.
            x: Inputs, as of `model.test_on_batch`.
            y: Targets.
            paths: Dict from names to lists of what `model.get_weights()` returned along the way.
            resolution: Integer of at least 2, the points of the grid in each direction. Defaults
                to `25`.

        Returns:
            A `LossLandscape`.

        Example:

        ```python
        import keras
        import numpy as np
        from keras_extras import visualization

        x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        path = [model.get_weights()]
        record = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: path.append(model.get_weights())
        )
        model.fit(x, x[:, :1], epochs=5, callbacks=[record], verbose=0)
        landscape = visualization.LossLandscape.from_model(
            model, x, x[:, :1], {"SGD": path}, resolution=5
        )
        figure = landscape.plot()
        ```
        """
        resolution = check_integer("resolution", resolution, minimum=2)
        kept = model.get_weights()
        shapes = [weight.shape for weight in kept]
        flat = {
            name: np.stack([_flatten(name, weights, kept) for weights in path])
            for name, path in paths.items()
        }
        # What is counted or averaged beside the weights stays as it is.
        trained = {id(weight) for weight in model.trainable_weights}
        moves = [np.full(k.size, id(w) in trained) for k, w in zip(kept, model.weights)]
        here, is_trained = np.concatenate([k.ravel() for k in kept]), np.concatenate(moves)
        flat = {name: np.where(is_trained, path, here) for name, path in flat.items()}
        everything = np.concatenate(list(flat.values())).astype("float64")
        center = everything.mean(axis=0)
        _, singular, axes = np.linalg.svd(everything - center, full_matrices=False)
        if len(singular) < 2 or not singular[1] > 0:
            raise ValueError(
                "`paths` must spread in two directions at least to span a plane. Received: "
                f"{len(everything)} points"
            )
        plane = axes[:2]

        def loss_at(a, b):
            model.set_weights(split_entries(center + a * plane[0] + b * plane[1], shapes))
            model.reset_metrics()
            return model.test_on_batch(x, y, return_dict=True)["loss"]

        try:
            landscape = cls.from_function(
                np.vectorize(loss_at, otypes=["float64"]),
                {name: (path - center) @ plane.T for name, path in flat.items()},
                resolution=resolution,
            )
        finally:
            model.set_weights(kept)
        landscape.explained_share = float(np.sum(singular[:2] ** 2) / np.sum(singular**2))
        return landscape

    def plot(self, ax: Any = None) -> Any:
        """Draws contours of the loss, and each path from its start (circle) to its end (dot).

        Args:
            ax: Matplotlib axes to draw on; a new figure without. Defaults to `None`.

        Returns:
            The matplotlib Figure.
        """
        ax = make_axes(ax, 6, 5)
        ax.grid(False)
        finite = np.ma.masked_invalid(self.losses)
        shares = np.linspace(0, 1, _NUM_LEVELS)[1:] ** 2
        levels = np.unique(np.quantile(finite.compressed(), shares))
        lines = ax.contour(
            self.horizontal, self.vertical, finite, levels, colors="0.8", linewidths=0.7
        )
        ax.clabel(lines, lines.levels[::4], fmt="%.3g", fontsize=7)
        for color, (name, path) in zip(COLORS * len(self.paths), self.paths.items()):
            ax.plot(*path.T, color=color, linewidth=1.2, label=name)
            ax.plot(*path[0], "o", color=color, fillstyle="none")
            ax.plot(*path[-1], "o", color=color)
        ax.set(xlim=self.horizontal[[0, -1]], ylim=self.vertical[[0, -1]])
        if self.paths:
            ax.legend(edgecolor="none", framealpha=0.8)
        return ax.figure


def _points(name, path):
    points = np.asarray(path, dtype="float64")
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(
            "Each of `paths` must have shape (number of points, 2). Received: "
            f"paths[{name!r}] of shape {points.shape}"
        )
    return points


def _limits_around(points):
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.stack([low - _MARGIN * width, high + _MARGIN * width], axis=1)


def _flatten(name, weights, like):
    shapes = [np.shape(weight) for weight in weights]
    if shapes != [weight.shape for weight in like]:
        raise ValueError(
            "Each of `paths` must be a list of what `model.get_weights()` returned. Received: "
            f"paths[{name!r}] with weights of the shapes {shapes}"
        )
    return np.concatenate([np.ravel(weight) for weight in weights])
