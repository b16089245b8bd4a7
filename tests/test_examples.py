"""Every example runs, in its fast mode, and leaves what it promises."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scripts import ROOT, help_of, load

import keras_extras


def example(name):
    return load(ROOT / "examples" / f"{name}.py")


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_every_example_has_a_test_and_help(script, monkeypatch, capsys):
    assert f"test_{script.stem}" in globals()
    assert "--fast" in help_of(script, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("optimizer", "form", "realizations"),
    [
        ("monte_carlo", "field_equation", 1),
        pytest.param("adam", "tensor", 2, marks=pytest.mark.slow),
    ],
)
def test_higgs_autoencoder(tmp_path, capsys, optimizer, form, realizations):
    result = example("higgs_autoencoder").main(
        optimizer=optimizer, form=form, realizations=realizations, out=tmp_path, fast=True
    )
    printed = capsys.readouterr().out
    assert "MSE / floor" in printed
    assert result["difference"] < 1e-6
    assert result["autoencoders"]["PCA with 10 components"]["over_floor"] == 1
    assert result["autoencoders"]["autoencoder by adam"]["over_floor"] > 1
    assert result["classifiers"]["random forest on raw features"]["auc"] > 0.8
    assert len(result["classifiers"]) == 6
    assert files(tmp_path) == {
        "loss.png",
        "latents.png",
        "reconstructions.png",
        "pipeline.keras",
    }


@pytest.mark.slow
def test_bayesian_regression(tmp_path, capsys):
    table = example("bayesian_regression").main(out=tmp_path, fast=True)
    assert list(table) == ["none", "aleatoric", "epistemic", "both", "function space"]
    assert all(np.isfinite(list(scores.values())).all() for scores in table.values())
    assert "90% holds" in capsys.readouterr().out
    assert files(tmp_path) == {
        "bands.png",
        "calibration.png",
        "loss.png",
    }


@pytest.mark.slow
def test_uncertainty_for_any_model(tmp_path, capsys):
    results = example("uncertainty_for_any_model").main(out=tmp_path, fast=True)
    cases = ["network", "variational", "variational LSTM", "SWAG", "IVON"]
    assert list(results["forecasts"]) == cases
    for name, scores in results["forecasts"].items():
        assert np.isfinite(list(scores.values())).all()
        assert (scores["epistemic"] > 1e-6) == (name != "network")
    trained, calibrated = (results["classifiers"][name] for name in ("trained", "calibrated"))
    assert trained["accuracy"] == calibrated["accuracy"]
    assert "90 % hold" in capsys.readouterr().out
    assert files(tmp_path) == {"intervals.png", "reliability.png"}


def test_bayesian_higgs(tmp_path, capsys):
    result = example("bayesian_higgs").main(out=tmp_path, fast=True)
    assert set(result["scores"]) == {"one draw", "average"}
    assert result["scores"]["average"]["auc"] > 0.6
    assert result["mutual_information"].min() > -1e-5
    assert "events kept, the surest first" in capsys.readouterr().out
    assert files(tmp_path) == {"uncertainty.png"}


def test_mixture_density(tmp_path, capsys):
    table = example("mixture_density").main(out=tmp_path, fast=True)
    assert list(table) == ["one normal", "mixture of normals", "mixture of logistics"]
    assert all(np.isfinite(list(scores.values())).all() for scores in table.values())
    assert "unseen galaxies" in capsys.readouterr().out
    figures = {"densities.png", "redshifts.png", "calibration.png", "loss.png"}
    assert files(tmp_path) == figures


def test_photometric_redshifts_are_ambiguous():
    """Neighbors in color are far apart in redshift for many galaxies, and near for others."""
    script = example("mixture_density")
    x, z = script.simulate(4_000, seed=0)
    assert z.min() > 0
    assert z.max() < 4.01
    distances = np.linalg.norm(x[:500, None] - x[None], axis=-1)
    neighbors = z[np.argsort(distances, axis=1)[:, 1:9]]
    spread = neighbors.max(axis=1) - neighbors.min(axis=1)
    assert np.mean(spread > 1.2) > 0.2
    assert np.mean(spread < 0.6) > 0.2


def test_variational_autoencoder(tmp_path, capsys):
    bounds = example("variational_autoencoder").main(out=tmp_path, fast=True)
    assert all(-50 < bound < -10 for bound in bounds.values())
    assert "lower bound" in capsys.readouterr().out
    figures = {"samples.png", "reconstructions.png", "latent_plane.png", "loss.png"}
    assert files(tmp_path) == figures | {"autoencoder.keras"}


@pytest.mark.slow
def test_maximize_significance(tmp_path, capsys):
    results = example("maximize_significance").main(hidden=2, out=tmp_path, fast=True)
    assert files(tmp_path) == {"significance.png"}
    assert list(results) == ["cross-entropy", "then tuned"]
    assert all(len(values) == 1 and values[0] > 0.0 for values in results.values())
    assert "of 1 runs" in capsys.readouterr().out


def test_backprop_by_hand(tmp_path, capsys):
    errors = example("backprop_by_hand").main(out=tmp_path, fast=True)
    assert max(error for found in errors.values() for error in found.values()) < 1e-8
    assert "new w5        0.358916" in capsys.readouterr().out
    figures = {"loss.png", "central_differences.png"}
    assert files(tmp_path) == figures


@pytest.mark.slow
def test_optimizer_race(tmp_path, capsys):
    script = example("optimizer_race")
    names = ["SGD", "hypergradient Adam", "L-BFGS", "Monte Carlo"]
    results = script.main(names=names, out=tmp_path, fast=True)
    assert list(results) == [*script.SURFACES, "digits"]
    for title, runs in results.items():
        assert list(runs) == names
        for run in runs.values():
            assert len(run.losses) == len(run.path) == (3 if title == "digits" else 6)
    for title in ("quadratic", "saddle", "digits"):
        assert all(run.losses[-1] < run.losses[0] for run in results[title].values())
    minima = {"quadratic": (0, 0), "Rosenbrock": (1, 1), "Beale": (3, 0.5), "saddle": (0, -1)}
    for title, surface in script.SURFACES.items():
        assert surface.function(*minima[title]) == 0.0 < surface.function(*surface.start)
    assert "test accuracy" in capsys.readouterr().out
    titles = {"quadratic", "rosenbrock", "beale", "saddle", "digits", "digits_loss"}
    assert files(tmp_path) == {f"{title}.png" for title in titles}


@pytest.mark.slow
def test_train_integers(tmp_path, capsys):
    medians = example("train_integers").main(out=tmp_path, fast=True)
    assert medians["ternary, trained"] > medians["ternary, rounded"]
    assert medians["int4, trained"] > 0.9 * medians["float"]
    assert "medians of 1 splits" in capsys.readouterr().out
    assert files(tmp_path) == {"accuracy.png"}


@pytest.mark.slow
def test_optimization_all_the_way_down(tmp_path, capsys):
    script = example("optimization_all_the_way_down")
    result = script.main(out=tmp_path, fast=True)
    loss, best = result["ridge"]
    assert loss == pytest.approx(best, rel=1e-4)
    tax, expected = result["tax"]
    assert tax == pytest.approx(expected, rel=1e-4)
    assert result["auroc"] > 0.95
    assert result["accuracy"]["learned"] > result["accuracy"]["drawn"]
    assert "5. ten images" in capsys.readouterr().out
    assert files(tmp_path) == {"pendulum.png", "wrong_labels.png", "ten_images.png"}


@pytest.mark.slow
def test_a_pendulum_learns_to_stand():
    upright, _ = example("optimization_all_the_way_down").swing_up(epochs=300)
    assert upright["before"] < 0.1
    assert upright["after"] > 0.8


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_wrong_labels_are_found(seed):
    auroc, _, _ = example("optimization_all_the_way_down").wrong_labels(meta_steps=20, seed=seed)
    assert auroc > 0.95


def test_learn_the_schedule(tmp_path, capsys):
    result = example("learn_the_schedule").main(out=tmp_path, fast=True)
    assert result["after"] < result["before"]
    assert result["penalties after"] < result["penalties before"]
    assert result["blank"] > result["other"]
    assert "momentum 0.50" in capsys.readouterr().out
    assert files(tmp_path) == {"schedule.png", "penalties.png"}


@pytest.mark.slow
def test_tune_higgs(tmp_path, capsys):
    result = example("tune_higgs").main(out=tmp_path, fast=True)
    assert "significance" in capsys.readouterr().out
    assert list(result["classifiers"]) == [
        "pipeline, tuned",
        "pipeline, untuned",
        "random forest",
        "gradient boosting",
        "support vector machine",
    ]
    assert result["classifiers"]["random forest"]["aucs"][0] > 0.8
    assert 0 < result["seconds"] < 600
    assert json.loads((tmp_path / "results.json").read_text()) == result
    pipeline = keras.models.load_model(tmp_path / "pipeline.keras")
    events = keras_extras.datasets.higgs.load_events(num_events=100)
    assert pipeline.predict(events.features, verbose=0).shape == (100, 1)
    assert files(tmp_path) == {
        "search",
        "report.html",
        "trials.png",
        "results.json",
        "pipeline.keras",
    }


def test_tune_higgs_begins_no_trial_that_ends_too_late(tmp_path, monkeypatch):
    script = example("tune_higgs")
    clock = SimpleNamespace(seconds=0.0)
    clock.perf_counter = lambda: clock.seconds
    monkeypatch.setattr(script, "time", clock)

    class Parabola(script.TimedSearch):
        def run_trial(self, trial, verbose):
            clock.seconds += 20.0
            return trial.hyperparameters.Float("x", -1.0, 1.0) ** 2

    for minutes, trials in ((1.0, 3), (1.3, 3), (0.1, 1)):
        tuner = Parabola(minutes=minutes, max_trials=9, directory=tmp_path, overwrite=True)
        tuner.search(verbose=0)
        assert len(tuner.oracle.trials) == trials


def test_tune_higgs_of_a_file_that_is_cut_off(tmp_path):
    (tmp_path / "events.csv").write_text("EventId,DER_mass_MMC\n100000,138")
    with pytest.raises(ValueError, match="column"):
        example("tune_higgs").main(data=tmp_path / "events.csv", out=tmp_path)


@pytest.mark.slow
def test_tune_uncertainty(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(120, 3))
    np.savez(tmp_path / "data.npz", x=rows, y=rows[:, 0])
    out = tmp_path / "out"
    results = example("tune_uncertainty").main(data=tmp_path / "data.npz", out=out, fast=True)
    assert list(results) == ["tuned", "untuned", "linear regression"]
    assert all(np.isfinite(found["nll"]) for found in results.values())
    assert results["linear regression"]["rmse"] < 1e-3  # the targets are a column of x
    assert "in 90 %" in capsys.readouterr().out
    model = keras.models.load_model(out / "model.keras")
    assert model.predict(rows, verbose=0).shape == (120, 1)
    assert files(out) == {
        "search",
        "report.html",
        "trials.png",
        "calibration.png",
        "model.keras",
    }


def test_tune_with_gradients(tmp_path, capsys):
    result = example("tune_with_gradients").main(out=tmp_path, fast=True)
    assert result["learned"]["learning_rate"].shape == (20,)
    assert result["learned"]["learning_rate"].min() > 0.05  # where they started
    assert 0.3 < result["accuracy"] <= 1.0
    assert "learning rates: from" in capsys.readouterr().out
    assert files(tmp_path) == {"search", "schedule.png", "model.keras"}


@pytest.mark.parametrize(
    ("problem", "optimizer"),
    [
        ("burgers_1d", "SSBroyden"),
        pytest.param("poisson_1d", "LevenbergMarquardt", marks=pytest.mark.slow),
        pytest.param("poisson_2d", "Adam", marks=pytest.mark.slow),
        pytest.param("burgers_2d", "LBFGS", marks=pytest.mark.slow),
        pytest.param("inverse_burgers", "SSBroyden", marks=pytest.mark.slow),
    ],
)
def test_physics_informed(tmp_path, capsys, problem, optimizer):
    result = example("physics_informed").main(problem, optimizer, out=tmp_path, fast=True)
    assert 0.0 < result["error"] < 10.0
    assert ("viscosity" in result) == (problem == "inverse_burgers")
    assert "relative L2 error" in capsys.readouterr().out
    assert files(tmp_path) == {f"{problem}_field.png", f"{problem}_error.png"}
    assert keras.config.floatx() == "float32"


@pytest.mark.slow
def test_a_physics_informed_network_solves_poisson():
    script = example("physics_informed")
    with script.double_precision():
        watch = script.solve("poisson_1d", "SSBroyden", seconds=60.0, points=256)
    assert watch.errors[-1] < 1e-6


@pytest.mark.parametrize("name", ["burgers_1d", "burgers_2d", "poisson_1d", "poisson_2d"])
def test_exact_solutions_satisfy_their_equations(name):
    """By central differences; what is left over is small beside the largest term."""
    script = example("physics_informed")
    problem = script.PROBLEMS[name]
    points = script.points_in(problem.limits, 64, seed=3) * 0.8 + 0.05
    step = 1e-3 if name == "burgers_1d" else 1e-4
    points = points[np.abs(points[:, -1]) > 0.1] if name == "burgers_1d" else points

    def moved(axis, size):
        there = points.copy()
        there[:, axis] += size
        return problem.exact(there)[:, None]

    here = problem.exact(points)[:, None]
    axes = range(points.shape[1])
    slopes = [(moved(axis, step) - moved(axis, -step)) / (2 * step) for axis in axes]

    def curvature(axis):
        return (moved(axis, step) + moved(axis, -step) - 2 * here) / step**2

    with script.double_precision():
        left = problem.equation(here, slopes, curvature, points, problem.viscosity)
    assert np.abs(np.array(left)).max() < 1e-2
