"""SearchMonitor: keeps record of how a search by sampling goes."""

import math
from typing import Any

import keras

from keras_extras._core.checks import check_integer
from keras_extras._core.optimizers import optimizer_of


class SearchMonitor(keras.callbacks.Callback):
    """Records the state of a search by `MonteCarloOptimizer`, `SPSA` or `CMAES` while `fit` runs.

    For each record every list of `history` gets one number more:

    - `"update"`: how many updates the search had made;
    - `"loss"`: the loss in the logs, a mean over the batches of the epoch so far;
    - `"center_loss"`: the loss, on the last batch, of the weights that its last generation of
      candidates was drawn around;
    - `"best_loss"`: that of the best of these candidates, on the same batch;
    - `"better_share"`: the share of these candidates that were better than the center. It is
      about a half where the loss is a slope, as far as the candidates reach, and low where the
      search is too wide, near a minimum, or where the loss is flat;
    - `"width"`: how far candidates lie from the center, as the root mean square over all weights,
      in the unit of `sigma`;
    - `"step"`: how far the last update moved the center, likewise; NaN for `SPSA`, which
      keeps no copy of the center;
    - `"axis_ratio"`: of `CMAES` only, the longest axis of the distribution by the shortest, the
      root of the condition number of the covariance;
    - `"nonfinite_candidates"`: how many candidates had no finite loss since the last record.

    `visualization.plot_search` draws them. While it is watched, a search evaluates the loss once
    more for each batch. The idea of watching how candidates rank is that of
    [KernelML](https://github.com/Freedomtowin/kernelml).

    Args:
        every: Integer, the batches between two records; `None` for a record at the end of each
            epoch. With `steps_per_execution` it is rounded up to whole executions.
            Defaults to `None`.
        optimizer_name: String, the `name` of the optimizer to watch, where a
            `PartitionedOptimizer` has several that search. Defaults to `None`.

    Attributes:
        history: Dict from names to lists, as of the `History` that `fit` returns.

    Raises:
        ValueError: In `fit`, if no optimizer searches, or several do and `optimizer_name` is none
            of theirs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras_extras.optimizers.MonteCarloOptimizer(0.05), "mse")
    monitor = keras_extras.callbacks.SearchMonitor(every=2)
    model.fit(x, 2.0 * x, epochs=10, callbacks=[monitor], verbose=0)
    monitor.history["better_share"]
    ```
    """

    def __init__(self, every: int | None = None, optimizer_name: str | None = None):
        super().__init__()
        self.every = None if every is None else check_integer("every", every)
        self.optimizer_name = optimizer_name
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.history = {}
        self._search = self._find_search()
        self._search.watch_search(True)
        self._nonfinite = self._count_nonfinite()
        self._batches = self._recorded = self._batches_before = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batches_before = self._batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches = self._batches_before + batch + 1
        if self.every and self._batches // self.every > self._recorded // self.every:
            self._record(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.every:
            self._record(logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._search.watch_search(False)

    def _record(self, logs):
        self._recorded = self._batches
        # On JAX variables have values during `fit` once a callback has asked for its model.
        self._search = self._find_search()
        count = self._count_nonfinite()
        numbers = {
            "update": int(self._search.iterations.numpy()),
            "loss": float((logs or {}).get("loss", math.nan)),
            **self._search.search_state(),
            "nonfinite_candidates": count - self._nonfinite,
        }
        self._nonfinite = count
        for name, number in numbers.items():
            self.history.setdefault(name, []).append(number)

    def _count_nonfinite(self):
        return self._search.extra_logs().get("nonfinite_candidates", 0)

    def _find_search(self):
        optimizer = optimizer_of(self.model)
        optimizers = getattr(optimizer, "optimizers", [optimizer])
        searches = [o for o in optimizers if hasattr(o, "search_state")]
        if not searches:
            raise ValueError(
                "`SearchMonitor` needs an optimizer that searches by sampling, such as "
                "`MonteCarloOptimizer`. Received: a model that trains by "
                f"{', '.join(repr(getattr(o, 'name', o)) for o in optimizers)}"
            )
        if self.optimizer_name is None and len(searches) == 1:
            return searches[0]
        named = [o for o in searches if o.name == self.optimizer_name]
        if len(named) != 1:
            raise ValueError(
                "`optimizer_name` must be the name of one of the optimizers that search, "
                f"{', '.join(repr(o.name) for o in searches)}, each of another name. "
                f"Received: optimizer_name={self.optimizer_name!r}"
            )
        return named[0]
