"""Every benchmark runs, on less work than it measures, and prints what it promises."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from scripts import ROOT, help_of, load


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.name)
def test_every_benchmark_has_a_test_and_help(script, monkeypatch, capsys):
    assert f"test_{script.stem}" in globals()
    assert "usage: " in help_of(script, monkeypatch, capsys)


@pytest.mark.slow
def test_tuners(capsys, monkeypatch):
    # By a name that processes of its own can import.
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("tuners")
    found = benchmark.gradients(trials=2, steps=12)
    assert list(found) == ["RandomSearch", "HypergradientTuner"]
    assert benchmark.memory(trials=8, early=4) < 1.2
    assert list(benchmark.workers((2,), trials=3, epochs=1, num_events=400)) == [2]
    printed = capsys.readouterr().out
    assert re.search(r"^ +2 +3 +3 ", printed, re.M), "each trial is run once"


@pytest.mark.slow
def test_heads(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "heads.py")
    results = benchmark.main(epochs=1, steps=2, out=tmp_path)
    assert set(results) == {"graph", "XLA"}
    assert all(result["ratio"] > 0 for result in results.values())
    assert "a training step" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["heads.json"]


@pytest.mark.slow
def test_derivative_free(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "derivative_free.py")
    runs = benchmark.main(seconds=1.0, seeds=1, methods="keras-extras", out=tmp_path)
    assert [run.task for run in runs] == ["higgs", "synthetic", "digits"]
    assert {run.method for run in runs} == {"keras-extras MonteCarloOptimizer"}
    for run in runs:
        first, *_, last = run.scores
        assert last > first if run.task == "digits" else last < first
        assert run.evaluations > 0
    assert "error over the PCA floor" in capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png"}


def test_first_try(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "first_try.py")
    ours = {"problems": "xor,zero_one", "methods": "MonteCarloOptimizer,Adam"}
    table = benchmark.main(**ours, updates="1,4", seeds=1, out=tmp_path)
    assert np.isnan(table["zero_one"]["Adam"]).all()
    first, last = table["xor"]["MonteCarloOptimizer"]
    assert 0 < last < first
    assert "cells: 4" in capsys.readouterr().out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png"}


def test_black_box(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "black_box.py")
    results = benchmark.main(sizes=(4,), functions="sphere,rastrigin", seeds=1, out=tmp_path)
    assert all(np.isfinite(result["CMAES"]).all() for result in results.values())
    assert "pycma" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["black_box.json"]


@pytest.mark.slow
def test_laplace(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "laplace.py")
    fits = ["full", "kron"]
    results = benchmark.main(["64-32-10"], fits, seeds=1, out=tmp_path)["64-32-10"]
    assert list(results) == ["plain", *fits]
    assert abs(results["kron"]["nll"] - results["full"]["nll"]) < 0.02
    for row in results.values():
        assert row.get("chosen", row["nll"]) < results["plain"]["nll"] + 0.01
    assert "s an epoch" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["laplace.json"]


@pytest.mark.slow
def test_import_time(capsys):
    benchmark = load(ROOT / "benchmarks" / "import_time.py")
    medians = benchmark.main(rounds=1)
    assert list(medians) == list(benchmark.STATEMENTS)
    assert 0.0 < medians["keras_extras"] < 0.15
    assert "median of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_ridge(capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "ridge.py")
    adam = "Adam, with the gradient"
    monkeypatch.setitem(benchmark.METHODS, adam, (*benchmark.METHODS[adam][:3], 2))
    assert benchmark.problem()[2] == pytest.approx(0.0469897, abs=5e-8)
    seconds = benchmark.main(seeds=1)
    assert set(seconds) == set(benchmark.METHODS)
    printed = capsys.readouterr().out
    for search in ("MonteCarloOptimizer", "CMAES"):
        assert re.search(rf"{search} +0\.046990 ", printed)


@pytest.mark.slow
def test_interval_coverage(capsys):
    benchmark = load(ROOT / "benchmarks" / "interval_coverage.py")
    coverages = benchmark.main(data_sets=3, steps=60)
    assert set(coverages) == {"linear", "logistic"}
    assert min(coverages.values()) > 0.6
    assert "width / classical" in capsys.readouterr().out


@pytest.mark.slow
def test_newton(capsys):
    benchmark = load(ROOT / "benchmarks" / "newton.py")
    results = benchmark.main(epochs=2)
    for runs in results.values():
        for ours, theirs in (("LBFGS", "lbfgs"), ("NewtonCG", "newton-cg")):
            assert runs[ours].excess < 1e-6
            assert runs[ours].error < 1e-3
            assert runs[ours].evaluations <= 1.5 * runs[f"scikit-learn {theirs}"].evaluations
    assert "evaluations of NewtonCG / scikit-learn's newton-cg" in capsys.readouterr().out


@pytest.mark.slow
def test_physics_informed(capsys):
    benchmark = load(ROOT / "benchmarks" / "physics_informed.py")
    results = benchmark.main(["poisson_1d"], ["SSBroyden"], seconds=1.0, points=64, width=4)
    assert results["poisson_1d", "SSBroyden"].errors[-1] < 1.0
    assert "relative L2 error" in capsys.readouterr().out


@pytest.mark.slow
def test_hypergradient_descent(capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "hypergradient_descent.py")
    monkeypatch.setattr(benchmark, "RATES", (1e-4,))
    by_rate, by_optimizer = benchmark.main(epochs=2, updates=30)
    assert all(adaptive < plain for pairs in by_rate.values() for plain, adaptive in pairs)
    assert set(by_optimizer) == set(benchmark.PAIRS)
    assert "validation loss after 30 updates" in capsys.readouterr().out


@pytest.mark.slow
def test_gpu():
    pytest.importorskip("jax")
    arguments = ["--parts", "target", "--epochs", "2"]
    process = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert "times the error of PCA after" in process.stdout, process.stderr[-3000:]


@pytest.mark.slow
def test_scaling(capsys):
    benchmark = load(ROOT / "benchmarks" / "scaling.py")
    results = benchmark.main(parts="weights,checkpoints", repeats=1, count=2)
    assert list(results) == ["weights", "checkpoints steps"]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in results.values())
    assert capsys.readouterr().out.count("exponent") == 2
    line = benchmark.straight_line(np.array([1, 2, 4]), np.array([3.0, 5.0, 9.0]))
    np.testing.assert_allclose(line, [3.0, 5.0, 9.0])


@pytest.mark.slow
def test_large_models(capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "large_models.py")
    small = dict(zip(benchmark.SIZES, [(8, 16, 10)] * len(benchmark.SIZES)))
    monkeypatch.setattr(benchmark, "SIZES", small)
    for part in benchmark.PARTS:
        benchmark.main(parts=part, steps=1)
    printed = capsys.readouterr().out
    assert printed.count("forward passes") == 3
    assert "low_rank / normal" in printed


@pytest.mark.slow
def test_hypergradient(capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "hypergradient.py")
    monkeypatch.setattr(benchmark, "MEMORIES", ("checkpoints",))
    for part in ("cost", "reversal_short", "rows", "meta"):
        benchmark.main(parts=part, steps=10)
    printed = capsys.readouterr().out
    assert re.search(r"checkpoints +\d+ ms +\d+ ms +\d", printed)
    assert "50,000 row weights, 10 steps: peak" in printed
    assert "of it" in printed


@pytest.mark.slow
def test_bayesian_layers(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "bayesian_layers.py")
    results = benchmark.main(epochs=1, steps=1, out=tmp_path)
    assert all(entry["ratio"] > 0.0 for entry in next(iter(results.values())).values())
    assert "predictions, 100 draws" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["bayesian_layers.json"]


@pytest.mark.slow
def test_ivon(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "ivon.py")
    results = benchmark.main(epochs=1, steps=1, out=tmp_path)
    assert all(row["ratio"] > 0.0 for row in results.values())
    assert re.search(r"^convolutions +\d", capsys.readouterr().out, re.M)
    assert [path.name for path in tmp_path.iterdir()] == ["ivon.json"]


@pytest.mark.slow
def test_nuts(tmp_path, capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "nuts.py")
    monkeypatch.setitem(sys.modules, "numpyro", None)
    monkeypatch.setattr(benchmark, "ROWS", 20)
    monkeypatch.setattr(benchmark, "HIDDEN", 2)
    results = benchmark.main(chains=2, burnin=50, draws=50, out=tmp_path)
    assert list(results) == ["keras-extras"], "NumPyro is left out where it is missing"
    assert results["keras-extras"]["effective samples"] > 0.0
    assert "NumPyro is left out" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["nuts.json"]


@pytest.mark.slow
def test_hmc_trajectories(tmp_path, capsys, monkeypatch):
    benchmark = load(ROOT / "benchmarks" / "hmc_trajectories.py")
    monkeypatch.setattr(benchmark, "LEAPFROG_STEPS", dict.fromkeys(benchmark.LEAPFROG_STEPS, (3,)))
    results = benchmark.main(seeds=1, draws=100, burnin=400, out=tmp_path)
    assert all(result["ratio"] > 0.5 for result in results.values())
    assert "best of the grid" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["hmc_trajectories.json"]


def as_arrays(folder, arrays):
    folder.mkdir()
    np.savez(folder / "wine.npz", **arrays)


def as_texts(folder, arrays):
    texts = folder / "wine-quality-red" / "data"
    texts.mkdir(parents=True)
    np.savetxt(texts / "data.txt", np.column_stack([arrays["y"], arrays["x"]]))
    columns = {"features": [1, 2], "target": [0]}
    rows = {name: arrays[name] for name in ("train_0", "test_0")}
    for name, index in {**columns, **rows}.items():
        np.savetxt(texts / f"index_{name}.txt", index)


@pytest.mark.slow
@pytest.mark.parametrize("write", [None, as_arrays, as_texts])
def test_uci(tmp_path, capsys, write):
    benchmark = load(ROOT / "benchmarks" / "uci.py")
    folder = None
    if write is not None:
        folder = tmp_path / "data"
        generator = np.random.default_rng(0)
        x = generator.normal(size=(60, 2))
        arrays = {"x": x, "y": x[:, 0] + generator.normal(size=60)}
        write(folder, {**arrays, "train_0": np.arange(50), "test_0": np.arange(50, 60)})
        ((*_, x_test, y_test),) = benchmark.published_splits(folder, "wine", 1)
        np.testing.assert_allclose(x_test, x[50:])
        np.testing.assert_allclose(y_test, arrays["y"][50:])
    results = benchmark.main(
        data=folder,
        sets=["wine"],
        methods=["ensemble", "laplace"],
        splits=1,
        epochs=2,
        out=tmp_path / "out",
    )
    (scores,) = results.values()
    assert list(scores) == ["ensemble", "laplace"]
    assert all(np.isfinite(list(values.values())).all() for values in scores.values())
    assert ("best published 0.93" in capsys.readouterr().out) is (write is not None)
    assert (tmp_path / "out" / "uci.json").exists()


def test_small_tables(capsys):
    benchmark = load(ROOT / "benchmarks" / "small_tables.py")
    results = benchmark.main(methods=["ensemble"], splits=1, epochs=20, num_members=2)
    covered, score, ridge, seconds = results["diabetes", "ensemble"]
    assert seconds > 0
    assert 0.8 < covered < 1.0
    assert score > ridge - 0.05
    assert "| diabetes | ensemble |" in capsys.readouterr().out


@pytest.mark.slow
def test_conformal(capsys):
    benchmark = load(ROOT / "benchmarks" / "conformal.py")
    results = benchmark.main(methods=["ensemble"], splits=20, fits=1, cross=1, epochs=10)
    assert set(results) == {("diabetes", "ensemble"), ("simulated", "ensemble")}
    for _, covered, *_ in results.values():
        assert 0.87 < covered < 0.94
    assert "| diabetes | ensemble |" in capsys.readouterr().out


@pytest.mark.slow
def test_out_of_distribution(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "out_of_distribution.py")
    results = benchmark.main(epochs=3, out=tmp_path)
    assert set(results) == set(benchmark.METHODS)
    sngp = results["SNGP, 256 features"]
    assert sngp["accuracy"] > 0.5
    assert all(0.0 <= value <= 1.0 for key, value in sngp.items() if key != "seconds")
    assert "| method | seconds | accuracy |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out_of_distribution.json"]


def test_bayesian_ensembles_without_the_peer(capsys):
    benchmark = load(ROOT / "benchmarks" / "bayesian_ensembles.py")
    if importlib.util.find_spec("bde") is not None:
        pytest.skip("sklearn-contrib-bde is installed")
    assert benchmark.main(sets="airfoil") == {}
    assert "Nothing is run" in capsys.readouterr().out


@pytest.mark.slow
def test_bayesian_ensembles(tmp_path):
    benchmark = load(ROOT / "benchmarks" / "bayesian_ensembles.py")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2))
    y = x[:, 0] + 0.1 * generator.normal(size=60)
    path = tmp_path / "table.npz"
    np.savez(path, x=x[:40], y=y[:40], x_test=x[40:], y_test=y[40:])
    measured = benchmark.measure("keras-extras", str(path), 0, 250)
    assert measured["rmse"] < 0.5
    assert measured["nll"] < 0.5
    assert measured["seconds"] > 0.0


def test_posterior_certificates(capsys):
    benchmark = load(ROOT / "benchmarks" / "posterior_certificates.py")
    p = benchmark.simulate(400, seed=0)
    noise = np.random.default_rng(4).normal(size=(1000, *p.mean.shape))
    exact = np.einsum("ij,njs->nis", np.linalg.cholesky(p.covariance), noise)
    independent = p.stddevs("mean field") * noise
    assert not benchmark.judge(p, p.mean + exact, "exact")["off by"]
    assert not benchmark.judge(p, p.mean + independent, "mean field")["off by"]
    for draws, fault in (
        (p.mean + 1.3 * exact, "ranks, sd 3.% too wide"),
        (p.mean + independent, "ranks, sd 2.% too narrow"),
        (p.mean + 0.3 * p.stddevs("exact") + exact, "ranks, mean by 0.30 sd"),
    ):
        assert re.fullmatch(fault, benchmark.judge(p, draws, "exact")["off by"])
    (row,) = benchmark.main(['LaplaceApproximation("kron")'], fast=True).values()
    assert not row["off by"]
    assert "Without a posterior: MC dropout" in capsys.readouterr().out


@pytest.mark.slow
def test_posterior_certificates_of_all_methods(tmp_path, capsys):
    benchmark = load(ROOT / "benchmarks" / "posterior_certificates.py")
    results = benchmark.main(fast=True, out=tmp_path)
    assert {name for name, _ in results} == set(benchmark.METHODS)
    for (name, reference), row in results.items():
        independent = (name, "mean field") in results
        narrow = name in ("SWAG", "CyclicalSGLD()")
        if narrow or (independent and reference == "exact"):
            assert "too narrow" in row["off by"]
        else:
            # With a fifth of the draws, means of correlated ones are less sure.
            assert row["p"] > 1e-3, name
            assert row["mean"] < 0.25, name
            assert abs(row["sd"] - 1.0) < 0.1, name
    assert "| `IVON` | mean field |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["posterior_certificates.json"]
