"""SearchReport: what a search found, as a table, figures and a page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
import numpy as np

from keras_extras._core.checks import check_choice
from keras_extras._core.optional import import_optional
from keras_extras.tuners.report_page import write_page
from keras_extras.visualization.figures import COLORS, make_axes, make_figure

# Fewer trials say nothing about what mattered.
_TRIALS_FOR_IMPORTANCES = 5
_TREES = 300
# Positive numbers that differ by more get a logarithmic axis.
_WIDE = 30
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


class TrialRecord(NamedTuple):
    """A finished trial.

    Attributes:
        trial_id: String.
        score: Float, the value of the objective.
        values: Dict from hyperparameters to their values, without those that did not count.
        metrics: Dict from metrics to their best values.

    Example:

    ```python
    from keras_extras import tuners

    trial = tuners.TrialRecord("00", 0.91, {"units": 64}, {"val_auc": 0.91})
    report = tuners.SearchReport([trial], objective="val_auc", direction="max")
    ```
    """

    trial_id: str
    score: float
    values: Mapping[str, Any]
    metrics: Mapping[str, float]


class SearchReport:
    """What a search of keras-tuner found: a table, three figures and a page that holds all.

    Args:
        trials: List of `TrialRecord`s, in the order in which they began.
        objective: String, what was searched for.
        direction: `"min"` or `"max"`, which of its values are better.

    Raises:
        ValueError: If there is no trial, or `direction` is neither.

    Example:

    ```python
    import keras_tuner
    from keras_extras import tuners


    class Parabola(keras_tuner.RandomSearch):
        def run_trial(self, trial, verbose):
            return trial.hyperparameters.Float("x", -1.0, 1.0) ** 2


    tuner = Parabola(max_trials=8, directory="outputs/parabola", overwrite=True)
    tuner.search(verbose=0)
    report = tuners.SearchReport.from_tuner(tuner)
    print(report)
    report.importances()  # {"x": 1.0}
    report.save_html("outputs/parabola/report.html")
    ```
    """

    def __init__(self, trials: Sequence[TrialRecord], objective: str, direction: str):
        self.trials = list(trials)
        self.objective = objective
        self.direction = check_choice("direction", direction, ("min", "max"))
        if not self.trials:
            raise ValueError("A report needs finished trials. Received: none")

    @classmethod
    def from_tuner(cls, tuner: keras_tuner.Tuner) -> "SearchReport":
        """Returns the report of a search, also of one that still runs or was taken up again.

        Args:
            tuner: A tuner of keras-tuner with one objective; of a distributed search the chief's,
                or one made anew with the same directory and project name.

        Raises:
            TypeError: If the tuner is a worker's, which knows no trials, or has several objectives.
            ValueError: If no trial is finished.
        """
        trials = getattr(tuner.oracle, "trials", None)
        if trials is None:
            raise TypeError(
                "A worker of a distributed search knows no trials. Make the report on the chief, "
                "or from a tuner with the same directory and project name. "
                f"Received: tuner.oracle={tuner.oracle!r}"
            )
        objective = tuner.oracle.objective
        if isinstance(objective, list) or not hasattr(objective, "direction"):
            raise TypeError(f"A report needs one objective. Received: {objective!r}")
        records = [
            TrialRecord(
                trial_id,
                float(trial.score),
                dict(trial.hyperparameters.values),
                {
                    name: float(trial.metrics.get_best_value(name))
                    for name in trial.metrics.metrics
                    if trial.metrics.get_history(name)
                },
            )
            for trial_id, trial in sorted(trials.items(), key=lambda item: int(item[0]))
            if trial.status == "COMPLETED"
        ]
        return cls(records, objective.name, objective.direction)

    @property
    def best(self) -> TrialRecord:
        """The best trial."""
        return self._ranked()[0]

    def _ranked(self):
        sign = 1 if self.direction == "min" else -1
        return sorted(self.trials, key=lambda trial: sign * trial.score)

    @property
    def hyperparameters(self) -> list[str]:
        """Names of what was searched, those of keras-tuner's own left out."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.values)
        return [name for name in names if not name.startswith("tuner/")]

    def to_frame(self) -> Any:
        """Returns the table as a pandas DataFrame, the best trial first."""
        pandas = import_optional("pandas", "data", "SearchReport.to_frame")
        return pandas.DataFrame(self._rows()).set_index("trial")

    def _rows(self):
        return [
            {"trial": trial.trial_id, self.objective: trial.score}
            | {name: trial.values.get(name) for name in self.hyperparameters}
            | {k: v for k, v in trial.metrics.items() if k != self.objective}
            for trial in self._ranked()
        ]

    def __str__(self) -> str:
        rows = self._rows()
        names = dict.fromkeys(name for row in rows for name in row)
        columns = [
            ["" if name == "trial" else name]
            + ["" if row.get(name) is None else str(_shown(row[name])) for row in rows]
            for name in names
        ]
        padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
        return "\n".join("  ".join(line) for line in zip(*padded))

    def importances(self, seed: int = 0) -> dict[str, float]:
        """Returns how much of the score each hyperparameter accounts for in a random forest.

        Shares of the decrease of variance in 300 trees (Breiman, 2001), which sum to 1. With few
        trials they are rough; hyperparameters that count in some trials only carry, in part, what
        decided that they count.

        Args:
            seed: Integer seed of the forest. Defaults to `0`.

        Raises:
            ValueError: If there are fewer than 5 trials.
        """
        if len(self.trials) < _TRIALS_FOR_IMPORTANCES:
            raise ValueError(
                f"Importances need at least {_TRIALS_FOR_IMPORTANCES} finished trials. "
                f"Received: {len(self.trials)}"
            )
        ensemble = import_optional("sklearn.ensemble", "sklearn", "SearchReport.importances")
        columns = {name: self._column(name)[0] for name in self.hyperparameters}
        forest = ensemble.RandomForestRegressor(_TREES, random_state=seed)
        forest.fit(np.column_stack(list(columns.values())), [t.score for t in self.trials])
        shares = dict(zip(columns, map(float, forest.feature_importances_)))
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _column(self, name):
        """Heights from 0 to 1 for the values of a hyperparameter, -1 where it does not count, and
        labels of some heights."""
        values = [trial.values.get(name) for trial in self.trials]
        given = [value for value in values if value is not None]
        if any(isinstance(value, (str, bool)) for value in given):
            choices = sorted(set(map(str, given)))
            labels = {place / max(len(choices) - 1, 1): c for place, c in enumerate(choices)}
            heights = {choice: height for height, choice in labels.items()}
            return np.array([-1.0 if v is None else heights[str(v)] for v in values]), labels
        low, high = min(given), max(given)
        labels = {0.0: f"{low:.3g}"} | ({1.0: f"{high:.3g}"} if high > low else {})
        is_wide = low > 0 and high > _WIDE * low
        scale = np.log if is_wide else float
        width = scale(high) - scale(low) or 1.0
        heights = [-1.0 if v is None else (scale(v) - scale(low)) / width for v in values]
        return np.array(heights), labels

    def plot_history(self, ax: Any = None) -> Any:
        """Plots the score of each trial and the best so far; returns the matplotlib Figure.

        Args:
            ax: Matplotlib axes to draw on; `None` for a new figure. Defaults to `None`.
        """
        ax = make_axes(ax, 7, 3.5)
        scores = [trial.score for trial in self.trials]
        best = (np.minimum if self.direction == "min" else np.maximum).accumulate(scores)
        numbers = np.arange(1, len(scores) + 1)
        ax.plot(numbers, scores, "o", color=COLORS[0], label="trial")
        ax.step(numbers, best, where="post", color=COLORS[1], label="best so far")
        ax.set(xlabel="trial", ylabel=self.objective)
        ax.legend(frameon=False)
        return ax.figure

    def plot_importances(self, ax: Any = None, seed: int = 0) -> Any:
        """Plots `importances`; returns the matplotlib Figure.

        Args:
            ax: Matplotlib axes to draw on; `None` for a new figure. Defaults to `None`.
            seed: Integer seed of the forest. Defaults to `0`.
        """
        shares = self.importances(seed)
        ax = make_axes(ax, 7, 0.8 + 0.3 * len(shares))
        ax.barh(list(shares)[::-1], list(shares.values())[::-1], color=COLORS[0])
        ax.set(xlabel=f"share of the variance of {self.objective}")
        return ax.figure

    def plot_parallel_coordinates(self) -> Any:
        """Plots each trial as a line through its hyperparameters, coloured by its score.

        Where one does not count the line goes below its axis. Positive numbers over a wide range
        are on a logarithmic axis.

        Returns:
            The matplotlib Figure.
        """
        cm = import_optional("matplotlib.cm", "plots", "SearchReport")
        colors = import_optional("matplotlib.colors", "plots", "SearchReport")
        names = self.hyperparameters
        figure = make_figure(max(5, 1.3 * len(names)), 4)
        ax = figure.subplots()
        scores = [trial.score for trial in self.trials]
        palette = "viridis_r" if self.direction == "min" else "viridis"
        shades = cm.ScalarMappable(colors.Normalize(min(scores), max(scores)), palette)
        columns = [self._column(name) for name in names]
        heights = np.column_stack([np.where(c < 0, -0.15, c) for c, _ in columns])
        order = np.argsort(scores)
        for row in order[::-1] if self.direction == "min" else order:
            ax.plot(heights[row], color=shades.to_rgba(scores[row]), linewidth=1.5)
        for place, (_, labels) in enumerate(columns):
            ax.axvline(place, color="0.8", zorder=0)
            for height, label in labels.items():
                ax.text(place, height, f" {label}", fontsize=8, va="center", bbox=_BEHIND_TEXT)
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        figure.colorbar(shades, ax=ax, label=self.objective)
        return figure

    def save_html(self, path: str | os.PathLike) -> Path:
        """Writes a page with the table and the figures, which needs no other file and no server.

        Args:
            path: Path of the file, which is complete or not there at all.

        Returns:
            The path.
        """
        figures = {"Trials": self.plot_history(), "Values": self.plot_parallel_coordinates()}
        if len(self.trials) >= _TRIALS_FOR_IMPORTANCES:
            figures["What mattered"] = self.plot_importances()
        settings = ", ".join(f"{k} = {_shown(v)}" for k, v in self.best.values.items())
        return write_page(
            path,
            title=f"Search for {self.objective}",
            summary=f"{len(self.trials)} trials. Best {self.objective}: {self.best.score:.6g}, "
            f"with {settings}.",
            figures=figures,
            table=self.to_frame(),
        )


def _shown(value):
    return f"{value:.4g}" if isinstance(value, float) else value
