"""Effective samples a gradient of HMC that learns its trajectories, beside the best of a grid.

Two normal distributions of 20 numbers whose variances go from 1 to 1,000, along the axes and
rotated, and a logistic regression with 10 inputs. The grid has 10 step sizes and 10 numbers of
leapfrog steps; its chains start from draws, in the same units. Effective samples are the least over
all numbers of those for their means and those for their squares, by TFP, and a gradient is one
leapfrog step. The best of 100 noisy figures is a little too good.

    python benchmarks/hmc_trajectories.py
    KERAS_BACKEND=jax python benchmarks/hmc_trajectories.py
"""

import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from common import command_line, conditions, write_json
from keras import ops

import keras_extras
from keras_extras.inference.markov_chains import MarkovChains

NUM_CHAINS = 16
# Where the grid looks; trajectories of the rotated normal are long.
LEAPFROG_STEPS = {
    "normal, rotated": (4, 6, 9, 13, 18, 25, 35, 50, 70, 100),
    "normal, along axes": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    "logistic regression": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
}


def targets() -> dict[str, tuple[Callable, int]]:
    """Names, with log densities and how many numbers they take."""
    generator = np.random.default_rng(0)
    variances = np.logspace(0.0, 3.0, 20)
    rotation = np.linalg.qr(generator.normal(size=(20, 20)))[0]
    x = (generator.normal(size=(200, 10)) * np.linspace(0.3, 3.0, 10)).astype("float32")
    logits = x @ generator.normal(scale=0.7, size=10)
    y = (generator.uniform(size=200) < 1.0 / (1.0 + np.exp(-logits))).astype("float32")

    def normal(axes):
        precision = ((axes / variances) @ axes.T).astype("float32")
        return lambda z: -0.5 * ops.sum(z * ops.matmul(precision, z))

    def logistic(z):
        logits = ops.matmul(x, z)
        return ops.sum(y * logits - ops.softplus(logits)) - 0.5 * ops.sum(ops.square(z))

    return {
        "normal, rotated": (normal(rotation), 20),
        "normal, along axes": (normal(np.eye(20)), 20),
        "logistic regression": (logistic, 10),
    }


def samples_a_gradient(draws) -> float:
    """Effective samples of the worst number, for means and squares, over all leapfrog steps."""
    values = np.moveaxis(draws.values, 1, 0)
    values = values - values.mean((0, 1))
    ess = keras_extras.tfp.mcmc.effective_sample_size
    worst = min(np.min(ess(v, cross_chain_dims=1)) for v in (values, values**2))
    return float(worst) / float(draws.stats["n_steps"].sum())


def main(seeds: int = 5, draws: int = 500, burnin: int = 800, out: str | None = None) -> dict:
    """Prints and returns for each target the figures of both, and their ratio.

    Args:
        seeds: Integer, runs of the chains that learn.
        draws: Integer, draws of each chain.
        burnin: Integer, transitions of the warm-up.
        out: Folder for `hmc_trajectories.json`; `None` for none.
    """
    machine, versions = conditions("tensorflow-probability")
    print(f"{machine}, {versions}; {NUM_CHAINS} chains, {burnin} + {draws} transitions")
    results = {}
    for name, (log_prob, size) in targets().items():
        learns = MarkovChains(log_prob, kernel="hmc", num_leapfrog_steps="auto")
        ours = []
        for seed in range(seeds):
            generator = np.random.default_rng(seed)
            start = 0.1 * generator.normal(size=(NUM_CHAINS, size))
            run = learns.run(start, draws, burnin, generator)
            ours.append(samples_a_gradient(run))
        cells = {}
        for steps in LEAPFROG_STEPS[name]:
            fixed = MarkovChains(log_prob, kernel="hmc", num_leapfrog_steps=steps)
            for step_size in np.linspace(0.15, 1.0, 10) * 1.8 * run.step_size:
                generator = np.random.default_rng(1)
                options = {"step_size": step_size, "scale": run.scale}
                cell = fixed.run(run.values[:, -1], draws, 0, generator, **options)
                cells[steps, step_size] = samples_a_gradient(cell)
        (steps, step_size), best = max(cells.items(), key=lambda cell: np.nan_to_num(cell[1]))
        median = float(np.median(ours))
        results[name] = {"learned": ours, "grid": best, "ratio": median / best}
        print(
            f"{name:20}: learned {median:.4f} ({min(ours):.4f} to {max(ours):.4f}), best of the "
            f"grid {best:.4f} (step {step_size:.2f}, {steps} steps): ratio {median / best:.2f}"
        )
    document = {"machine": machine, "versions": versions, "results": results}
    write_json(out, "hmc_trajectories.json", document)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs of the chains that learn")
    parser.add_argument("--draws", type=int, default=500, help="draws of each chain")
    parser.add_argument("--burnin", type=int, default=800, help="warm-up steps of each chain")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
