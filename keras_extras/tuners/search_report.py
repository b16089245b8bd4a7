"""SearchReport: what a search found, as a table, figures and a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from keras_extras._core.checks import check_choice
from keras_extras._core.optional import import_optional
from keras_extras.tuners.report_figures import MAX_INCHES, draw_parallel_coordinates
from keras_extras.tuners.report_page import write_page
from keras_extras.tuners.report_values import label, place, plain, shown
from keras_extras.tuners.trial_record import TrialRecord, completed_trials
from keras_extras.visualization.figures import COLORS, as_float, drawable, make_axes

# Fewer trials say nothing about what mattered.
_TRIALS_FOR_IMPORTANCES = 5
_TREES = 300


class SearchReport:
    """Results of a search of keras-tuner: a table, three figures and a page that holds all.

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
                or a new one with the same directory and project name.

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
        records = completed_trials(tuner.oracle)
        return cls(records, objective.name, objective.direction)

    @property
    def best(self) -> TrialRecord:
        """The best trial."""
        return self._ranked()[0]

    def _ranked(self):
        sign = 1 if self.direction == "min" else -1

        def key(trial):
            score = as_float(trial.score)
            return np.isnan(score), 0.0 if np.isnan(score) else sign * score

        return sorted(self.trials, key=key)

    @property
    def hyperparameters(self) -> list[str]:
        """Names of what was searched, those of keras-tuner's own left out."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.values)
        return [name for name in names if not str(name).startswith("tuner/")]

    def to_frame(self) -> Any:
        """Returns the table as a pandas DataFrame, the best trial first."""
        pandas = import_optional("pandas", "data", "SearchReport.to_frame")
        return pandas.DataFrame(self._columns()).set_index("trial")

    def _columns(self):
        """From names, each of which is there once, to values of all trials, the best first."""
        trials = self._ranked()
        names = dict.fromkeys(name for trial in trials for name in trial.metrics)
        columns = {"trial": [trial.trial_id for trial in trials]}

        def add(name, kind, values):
            while name in columns:
                name = f"{name} ({kind})"
            columns[name] = values

        add(self.objective, "objective", [trial.score for trial in trials])
        for name in self.hyperparameters:
            add(name, "hyperparameter", [trial.values.get(name) for trial in trials])
        for name in names:
            if name != self.objective:
                add(name, "metric", [trial.metrics.get(name) for trial in trials])
        return columns

    def _cells(self):
        """The columns as text, each under its name."""
        return [
            [plain(name), *("" if value is None else shown(value) for value in values)]
            for name, values in self._columns().items()
        ]

    def __str__(self) -> str:
        (_, *trials), *others = self._cells()
        columns = [["", *trials], *others]
        padded = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
        return "\n".join("  ".join(line) for line in zip(*padded))

    def __repr__(self) -> str:
        return f"<SearchReport of {len(self.trials)} trials for {self.objective!r}>"

    def importances(self, seed: int = 0) -> dict[str, float]:
        """Returns how much of the score each hyperparameter accounts for in a random forest.

        Shares of the decrease of variance in 300 trees (Breiman, 2001), which sum to 1. With few
        trials they are rough; hyperparameters that count in some trials only carry, in part, what
        decided that they count.

        Trials without a finite score are left out.

        Args:
            seed: Integer seed of the forest. Defaults to `0`.

        Raises:
            ValueError: If there are fewer than 5 trials.
        """
        scores = self._scores()
        is_finite = np.isfinite(scores)
        if is_finite.sum() < _TRIALS_FOR_IMPORTANCES:
            raise ValueError(
                f"Importances need at least {_TRIALS_FOR_IMPORTANCES} finished trials. "
                f"Received: {is_finite.sum()}"
                f"{'' if is_finite.all() else ' with a finite score'}"
            )
        columns = {name: self._place(name)[0][is_finite] for name in self.hyperparameters}
        if not columns:
            return {}
        ensemble = import_optional("sklearn.ensemble", "sklearn", "SearchReport.importances")
        forest = ensemble.RandomForestRegressor(_TREES, random_state=seed)
        # Shares do not depend on the unit, but variances may be beyond all numbers.
        unit = np.abs(scores[is_finite]).max() or 1.0
        forest.fit(np.column_stack(list(columns.values())), scores[is_finite] / unit)
        shares = dict(zip(columns, map(float, forest.feature_importances_)))
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _scores(self):
        return drawable([trial.score for trial in self.trials])

    def _place(self, name):
        return place([trial.values.get(name) for trial in self.trials])

    def plot_history(self, ax: Any = None) -> Any:
        """Plots the score of each trial and the best so far; returns the matplotlib Figure.

        Args:
            ax: Matplotlib axes to draw on; `None` for a new figure. Defaults to `None`.
        """
        ax = make_axes(ax, 7, 3.5)
        scores = self._scores()
        is_finite = np.isfinite(scores)
        best = (np.fmin if self.direction == "min" else np.fmax).accumulate(scores)
        numbers = np.arange(1, len(scores) + 1)
        ax.plot(numbers, scores, "o", color=COLORS[0], label="trial")
        ax.step(numbers, best, where="post", color=COLORS[1], label="best so far")
        if not is_finite.all():
            others = numbers[~is_finite]
            bottom = {"transform": ax.get_xaxis_transform(), "clip_on": False}
            ax.plot(others, 0.0 * others, "x", color="0.4", label="no finite score", **bottom)
        ax.set(xlabel="trial", ylabel=label(self.objective))
        ax.legend(frameon=False)
        return ax.figure

    def plot_importances(self, ax: Any = None, seed: int = 0) -> Any:
        """Plots `importances`; returns the matplotlib Figure.

        Args:
            ax: Matplotlib axes to draw on; `None` for a new figure. Defaults to `None`.
            seed: Integer seed of the forest. Defaults to `0`.
        """
        shares = self.importances(seed)
        ax = make_axes(ax, 7, min(0.8 + 0.3 * max(len(shares), 1), MAX_INCHES))
        places = range(len(shares))[::-1]
        ax.barh(places, list(shares.values()), color=COLORS[0])
        ax.set_yticks(places, [label(name) for name in shares])
        ax.set(xlabel=f"share of the variance of {label(self.objective)}")
        return ax.figure

    def plot_parallel_coordinates(self) -> Any:
        """Plots each trial as a line through its hyperparameters, colored by its score.

        Where one does not count the line goes below its axis. Positive numbers over a wide range
        are on a logarithmic axis.

        Returns:
            The matplotlib Figure.
        """
        return draw_parallel_coordinates(
            {name: self._place(name) for name in self.hyperparameters},
            self._scores(),
            self.objective,
            self.direction,
        )

    def save_html(self, path: str | os.PathLike) -> Path:
        """Writes a page with the table and the figures, which needs no other file and no server.

        Args:
            path: Path of the file, which is complete or not there at all.

        Returns:
            The path.
        """
        figures = {"Trials": self.plot_history()}
        if self.hyperparameters:
            figures["Values"] = self.plot_parallel_coordinates()
            if np.isfinite(self._scores()).sum() >= _TRIALS_FOR_IMPORTANCES:
                figures["What mattered"] = self.plot_importances()
        settings = ", ".join(f"{plain(k)} = {shown(v)}" for k, v in self.best.values.items())
        score = self.best.score
        return write_page(
            path,
            title=f"Search for {plain(self.objective)}",
            summary=f"{len(self.trials)} trials. Best {plain(self.objective)}: "
            f"{score if isinstance(score, int) else format(as_float(score), '.6g')}"
            f"{f', with {settings}' if settings else ''}.",
            figures=figures,
            columns=self._cells(),
        )
