"""Reports of searches with names, values and scores of any kind."""

import io
import math
import warnings

import keras_tuner
import numpy as np
import pytest

from keras_extras import visualization
from keras_extras.tuners import SearchReport, TrialRecord, search_report

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(search_report, "_TREES", 3)


def report(values, scores=(0.3, 0.1, 0.5, 0.2, 0.4), objective="val_loss", metrics=None):
    values = values if isinstance(values, list) else [values]
    trials = [
        TrialRecord(str(i), score, values[i % len(values)], metrics or {objective: score})
        for i, score in enumerate(scores)
    ]
    return SearchReport(trials, objective, "min")


NAMES = [
    "a$b",
    "$\\frac{1$",
    "\\$x$y$",
    "<script>&amp;'\"",
    "50% {x} %s",
    "_^\\",
    "NUL\0\n\t\x1b[31m",
    "\ud800",
    "é 学习率 😀",
    "n" * 3000,
    "",
]
VALUES = {
    "none": {},
    "all None": {"a": None},
    "constant": {"a": 1.0, "b": "x", "c": True},
    "lists": [{"a": [1, 2]}, {"a": [3]}],
    "other types": [{"a": {"x": 1}}, {"a": (1, 2)}, {"a": b"x"}, {"a": 1j}],
    "mixed": [{"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}],
    "large integers": [{"a": 10**400, "b": -(2**70)}, {"a": 10**401, "b": 10**500}, {"a": 0.5}],
    "wide": [{"a": 5e-324, "b": -1e308}, {"a": 1e308, "b": 1.7e308}, {"a": 1.0, "b": -1}],
    "not finite": [{"a": NAN}, {"a": INF}, {"a": 1.0}],
    "numpy": [{"a": np.float32(1), "b": np.bool_(True)}, {"a": np.int64(2), "b": np.array([1])}],
    "flags": [{"a": True}, {"a": False}],
    "many": {f"name {i}": i for i in range(25)},
    "of keras-tuner": {"tuner/epochs": 3},
}
SCORES = {
    "one infinite": (0.3, INF, 0.5, 0.2, 0.4, 0.1),
    "infinite": (INF, -INF, INF, INF, INF),
    "nan": (NAN, 0.1, 0.5, 0.2, 0.4, NAN),
    "no number": (NAN,) * 5,
    "None": (None, 0.1, 0.5, 0.2, 0.4, 0.6),
    "huge": (1.7e308, -1.7e308, 1e-300, 0.0, 10**400, 1),
    "equal": (0.5,) * 5,
    "one": (0.5,),
}


def draw_all(found, folder):
    assert str(found).count("\n") == len(found.trials)
    assert str(len(found.trials)) in repr(found)
    assert len(found.to_frame()) == len(found.trials)
    page = found.save_html(folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 1 + len(found.trials)
    return page


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name(name, tmp_path):
    page = draw_all(report([{name: name}, {name: "other"}], objective=f"val {name}"), tmp_path)
    assert page.count("data:image/png") == 3
    assert "<script>" not in page
    assert "\0" not in page


@pytest.mark.parametrize("kind", VALUES)
def test_any_values(kind, tmp_path):
    found = report(VALUES[kind])
    page = draw_all(found, tmp_path)
    assert page.count("data:image/png") == (3 if found.hyperparameters else 1)
    found.plot_parallel_coordinates().savefig(io.BytesIO())
    found.plot_importances().savefig(io.BytesIO())


@pytest.mark.parametrize("kind", SCORES)
def test_any_scores(kind, tmp_path):
    found = report([{"a": float(i)} for i in range(6)], SCORES[kind])
    draw_all(found, tmp_path)
    known = [s for s in SCORES[kind] if s is not None and (isinstance(s, int) or s == s)]
    if known:
        assert found.best.score == min(known)


def test_trials_without_a_finite_score_are_drawn_as_such():
    found = report([{"a": 1.0}, {"a": 2.0}], (3.0, NAN, 2.0, INF, 1.0))
    scores, best, others = found.plot_history().axes[0].lines
    np.testing.assert_array_equal(best.get_ydata(), [3.0, 3.0, 2.0, 2.0, 1.0])
    np.testing.assert_array_equal(others.get_xdata(), [2, 4])
    assert np.isnan(scores.get_ydata()).sum() == 2
    assert [trial.score for trial in found._ranked()][:4] == [1.0, 2.0, 3.0, INF]


def test_values_that_differ_are_apart():
    found = report([{"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"a": 1.0}])
    heights, labels = found._place("a")
    assert len(set(heights)) == 5
    assert sorted(labels.values()) == ["'1'", "1", "1.0", "True"]
    heights, labels = report([{"a": 10**400}, {"a": 10**402}, {"a": 10**404}])._place("a")
    np.testing.assert_allclose(heights[:3], [0.0, 0.5, 1.0])
    assert list(labels.values()) == ["1.00e+400", "1.00e+404"]


def test_columns_of_one_name_are_all_in_the_table():
    found = report({"loss": 3, "trial": 4, "val_loss": 5}, metrics={"loss": 0.7, "trial": 0.8})
    row = found.to_frame().iloc[0]
    assert found.to_frame().index[0] == "1"
    assert dict(row) == {
        "val_loss": 0.1,
        "loss": 3,
        "trial (hyperparameter)": 4,
        "val_loss (hyperparameter)": 5,
        "loss (metric)": 0.7,
        "trial (metric)": 0.8,
    }


def test_trials_of_any_id_are_in_the_order_in_which_they_began(tmp_path):
    class Named(keras_tuner.RandomSearch):
        def run_trial(self, trial, verbose):
            return {"score": trial.hyperparameters.Float("x", -1.0, 1.0) ** 2, "other": NAN}

    tuner = Named(objective=keras_tuner.Objective("score", "min"), max_trials=3, directory=tmp_path)
    with warnings.catch_warnings(action="ignore"):  # keras-tuner's own of metrics without a value.
        tuner.search(verbose=0)
    for old, new in {"0": "beef", "1": "10", "2": "a"}.items():
        trial = tuner.oracle.trials.pop(old)
        trial.trial_id = new
        tuner.oracle.trials[new] = trial
    tuner.oracle.start_order = ["beef", "10", "a"]
    trials = SearchReport.from_tuner(tuner).trials
    assert [trial.trial_id for trial in trials] == ["beef", "10", "a"]
    assert math.isnan(trials[0].metrics["other"])


@pytest.mark.parametrize(
    "values",
    [(1.0, NAN, 2.0), (NAN,) * 3, (None, 1.0, INF), (-1.0, 0.0, 1.0), (1e308, 5e-324, 10**400)],
)
def test_figures_of_a_search_by_sampling_of_any_numbers(values):
    names = ("loss", "center_loss", "best_loss", "width", "step", "better_share", "axis_ratio")
    history = {"update": [1, 2, 3], **dict.fromkeys(names, values)}
    visualization.plot_search(history).savefig(io.BytesIO())
    with pytest.raises(ValueError, match=r"a value of 'step' for each of 3 updates\."):
        visualization.plot_search({**history, "step": [1.0]})
