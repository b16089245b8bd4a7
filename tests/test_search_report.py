"""What a report tells of a search."""

import re
import sys

import keras_tuner
import numpy as np
import pytest
from browser import DESKTOP, PHONE

from keras_extras.tuners import SearchReport, TrialRecord

GENERATOR = np.random.default_rng(0)


def record(number, rate, kind, width=None):
    score = abs(np.log10(rate) + 2.0) + (0.1 if kind == "wide" else 0.0)
    values = {"rate": rate, "kind": kind} | ({} if width is None else {"width": width})
    return TrialRecord(str(number), score, values, {"val_loss": score, "loss": score / 2})


RATES = 10.0 ** GENERATOR.uniform(-5, 0, size=40)
TRIALS = [
    record(i, rate, "wide" if i % 2 else "narrow", 10 * (i % 3) if i % 2 else None)
    for i, rate in enumerate(RATES)
]
REPORT = SearchReport(TRIALS, "val_loss", "min")


def test_the_table_lists_the_best_first():
    frame = REPORT.to_frame()
    assert list(frame.columns) == ["val_loss", "rate", "kind", "width", "loss"]
    assert frame["val_loss"].is_monotonic_increasing
    assert frame.index[0] == REPORT.best.trial_id
    assert np.isnan(frame.loc["0", "width"])
    assert str(REPORT).splitlines()[0].split() == list(frame.columns)
    assert SearchReport(TRIALS, "val_loss", "max").best.score == max(t.score for t in TRIALS)


def test_importances_name_what_mattered():
    shares = REPORT.importances()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.9


def test_figures_show_each_trial():
    (ax,) = REPORT.plot_history().axes
    scores, best = ax.lines
    np.testing.assert_array_equal(scores.get_ydata(), [t.score for t in TRIALS])
    np.testing.assert_array_equal(best.get_ydata(), np.minimum.accumulate(scores.get_ydata()))
    ax = REPORT.plot_parallel_coordinates().axes[0]
    lines = [line for line in ax.lines if len(line.get_ydata()) == 3]
    assert len(lines) == len(TRIALS)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["rate", "kind", "width"]
    heights = np.sort([line.get_ydata()[0] for line in lines])
    logs = np.sort(np.log(RATES / RATES.min()) / np.log(RATES.max() / RATES.min()))
    np.testing.assert_allclose(heights, logs)  # on a logarithmic axis
    (ax,) = REPORT.plot_importances().axes
    assert len(ax.patches) == 3


def test_the_page_holds_everything(tmp_path):
    page = REPORT.save_html(tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=['\"]?(http|/|\.)", page)
    assert f"Best val_loss: {REPORT.best.score:.6g}" in page
    assert page.count("<tr") >= 1 + len(TRIALS)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(browser, tmp_path, width, dark):
    browser.open(REPORT.save_html(tmp_path / "report.html").as_uri(), width, dark=dark)
    assert not browser.errors
    assert browser.overflow() <= 0
    widths = browser.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(widths) == 3
    assert min(widths) > 300
    cells = browser.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(r => r.cells[1].innerText)"
    )
    assert cells == [f"{score:.4g}" for score in sorted(t.score for t in TRIALS)]


class Parabola(keras_tuner.RandomSearch):
    def run_trial(self, trial, verbose):
        x = trial.hyperparameters.Float("x", -1.0, 1.0)
        if trial.trial_id == "3":
            return float("nan")
        return {"score": x**2, "other": x}


def test_from_a_tuner(tmp_path):
    tuner = Parabola(
        objective=keras_tuner.Objective("score", "min"), max_trials=6, directory=tmp_path, seed=0
    )
    with pytest.raises(ValueError, match="needs finished trials"):
        SearchReport.from_tuner(tuner)
    tuner.search(verbose=0)
    report = SearchReport.from_tuner(tuner)
    assert [trial.trial_id for trial in report.trials] == ["0", "1", "2", "4", "5"]
    assert report.hyperparameters == ["x"]
    for trial in report.trials:
        assert trial.score == pytest.approx(trial.values["x"] ** 2)
        assert trial.metrics["other"] == pytest.approx(trial.values["x"])
    assert report.importances() == {"x": 1.0}


def test_bad_arguments():
    with pytest.raises(ValueError, match="`direction` must be one of"):
        SearchReport(TRIALS, "val_loss", "down")
    with pytest.raises(ValueError, match=r"at least 5 finished trials. Received: 4"):
        SearchReport(TRIALS[:4], "val_loss", "min").importances()


def test_a_report_prints_without_pandas(monkeypatch):
    trials = [
        TrialRecord("00", 0.5, {"units": 64, "rate": 0.00123456}, {"val_auc": 0.5}),
        TrialRecord("01", 0.25, {"units": 8}, {"val_auc": 0.25, "auc": 0.1}),
    ]
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert str(SearchReport(trials, "val_auc", "max")).splitlines() == [
        "    val_auc  units      rate  auc",
        "00      0.5     64  0.001235     ",
        "01     0.25      8            0.1",
    ]
