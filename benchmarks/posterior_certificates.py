"""Every way to a posterior beside the exact one: simulation-based calibration, means, deviations.

The model is a linear regression with two correlated features, a bias, noise of known scale and
standard normal priors, whose posterior has a closed form. One `Dense` layer with many outputs is
many independent regressions of the same rows, so one run of a method is many simulations: weights
are drawn from the prior, targets from the model, and the method sees only these. Each method
predicts at places from which the weights can be read, by its own `predict_distribution`.

Columns of the table:

- reference: the exact posterior; for methods with independent weights also what these can be at
  best, the mean-field optimum: normal with the exact means and the diagonal of the exact precision.
- p of ranks: a draw of the reference (of the exact posterior, the weight that made the data) has a
  rank among 99 draws of the method, evenly spaced. Ranks are uniform if both are one distribution
  (Talts et al., 2018, arXiv:1804.06788). It is the p-value of a chi-square test over 20 bins, the
  least of the three weights, times three.
- mean: root mean square error of the means over simulations and weights, in deviations of the
  reference. The finite number of draws is a part of it.
- sd: mean ratio of standard deviations to those of the reference, of the weight that is farthest
  off.
- off by: p < 0.01, a mean off by more than 0.1, or a deviation by more than 10 %.

    python benchmarks/posterior_certificates.py
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json
from common.conjugate_regression import (
    EXACT,
    MEAN_FIELD,
    NOISE,
    PLACES,
    ROWS,
    Problem,
    draws_of,
    judge,
    simulate,
)

import keras_extras
from keras_extras import callbacks, inference, layers, optimizers

NO_POSTERIOR = {
    "MC dropout": "the spread is that of the dropout rate, which no data narrow",
    "ensembles": "the spread is that of starts and of rows left out, and each member is a mode",
}


def head() -> keras.layers.Layer:
    from tensorflow_probability import distributions as tfd

    return layers.DistributionLambda(lambda means: tfd.Independent(tfd.Normal(means, NOISE), 1))


def model_of(p: Problem, layer: keras.layers.Layer | None = None) -> keras.Model:
    layer = keras.layers.Dense(p.y.shape[1]) if layer is None else layer
    return keras.Sequential([keras.Input((2,)), layer, head()])


def penalized(p: Problem) -> keras.layers.Layer:
    """A layer with the prior as a penalty of the mean loss."""
    prior = keras.regularizers.L2(0.5 / ROWS)
    return keras.layers.Dense(p.y.shape[1], kernel_regularizer=prior, bias_regularizer=prior)


def train(p: Problem, model: keras.Model, optimizer: Any, steps: int) -> keras.Model:
    """Trains on all rows in each step."""
    import tensorflow as tf

    model.compile(optimizer, loss=lambda y, rv_y: -rv_y.log_prob(y), steps_per_execution=100)
    rows = tf.data.Dataset.from_tensors((p.x, p.y)).repeat(steps)
    model.fit(rows, shuffle=False, verbose=0)
    return model


def chains(p: Problem, effort: float, **arguments: Any) -> Any:
    """Predictions of four chains, with all draws."""
    count = int(1000 * effort)
    posterior = inference.sample_posterior(
        model_of(p),
        p.x,
        p.y,
        num_results=count,
        num_burnin_steps=int(500 * effort) + 200,
        verbose=0,
        **arguments,
    )
    return posterior.predict_distribution(PLACES, num_samples=4 * count)


def laplace(p: Problem, effort: float, structure: str) -> Any:
    model = model_of(p, penalized(p))
    model.compile(optimizers.LBFGS(), loss=lambda y, rv_y: -rv_y.log_prob(y))
    converged = callbacks.StopWhenConverged()
    model.fit(p.x, p.y, batch_size=ROWS, epochs=50, callbacks=[converged], verbose=0)
    found = inference.LaplaceApproximation(model, p.x, p.y, hessian_structure=structure)
    return found.predict_distribution(PLACES, num_samples=2000)


def sgld(p: Problem, effort: float) -> Any:
    draws, thinning = int(2000 * effort), 40
    optimizer = optimizers.SGLD(
        0.05,
        prior_stddev=1.0,
        num_samples=draws,
        burnin_steps=1000,
        thinning_steps=thinning,
    )
    model = train(p, model_of(p), optimizer, 1000 + draws * thinning)
    return inference.Posterior.from_optimizer(model).predict_distribution(PLACES, num_samples=draws)


def cyclical_sgld(p: Problem, effort: float, **settings: Any) -> Any:
    steps = int(50 * effort) * 1000
    optimizer = optimizers.CyclicalSGLD(prior_stddev=1.0, num_samples=1000, **settings)
    posterior = inference.Posterior.from_optimizer(train(p, model_of(p), optimizer, steps))
    return posterior.predict_distribution(PLACES, num_samples=posterior.num_results)


def ivon(p: Problem, effort: float) -> Any:
    steps = int(100 * effort) * 100
    rate = keras.optimizers.schedules.CosineDecay(0.1, steps)
    optimizer = optimizers.IVON(rate, beta_2=0.999, weight_decay=1.0 / ROWS)
    model = train(p, model_of(p), optimizer, steps)
    posterior = inference.Posterior.from_optimizer(model, num_draws=2000)
    return posterior.predict_distribution(PLACES, num_samples=2000)


def swag(p: Problem, effort: float) -> Any:
    """At the learning rate that its docstring gives, `2 B / n`."""
    import tensorflow as tf

    batch, epochs = 2, int(600 * effort)
    collected = callbacks.SWAG(start_epoch=20, every=3)
    model = model_of(p, penalized(p))
    model.compile(keras.optimizers.SGD(2 * batch / ROWS), loss=lambda y, rv_y: -rv_y.log_prob(y))
    # Of arrays, Keras on TensorFlow shuffles each epoch alike after `set_random_seed`.
    rows = tf.data.Dataset.from_tensor_slices((p.x, p.y)).shuffle(ROWS).batch(batch)
    model.fit(rows, epochs=20 + epochs, callbacks=[collected], shuffle=False, verbose=0)
    posterior = inference.Posterior.from_callback(collected, num_draws=2000)
    return posterior.predict_distribution(PLACES, num_samples=2000)


def variational(p: Problem, effort: float, make: Callable[[int], keras.layers.Layer]) -> Any:
    steps = int(100 * effort) * 100
    rate = keras.optimizers.schedules.CosineDecay(0.03, steps)
    layer = make(p.y.shape[1])
    model = train(p, model_of(p, layer), keras.optimizers.Adam(rate), steps)
    return keras_extras.predict_distribution(model, PLACES, num_samples=2000)


def by_name(layer: type) -> Callable[[int], keras.layers.Layer]:
    both = {"posterior": "mean_field", "prior": "standard_normal"}
    return lambda units: layer(units, **both, kl_weight="auto")


def all_covariances(units: int) -> keras.layers.Layer:
    return layers.DenseVariational(
        units, posterior="multivariate_normal", kl_weight="auto", kl_use_exact=True
    )


METHODS: dict[str, tuple[Callable, Sequence[str]]] = {
    'sample_posterior(kernel="nuts")': (partial(chains, kernel="nuts"), [EXACT]),
    'sample_posterior(kernel="hmc")': (partial(chains, kernel="hmc"), [EXACT]),
    'sample_posterior(kernel="mclmc")': (partial(chains, kernel="mclmc"), [EXACT]),
    'LaplaceApproximation("full")': (partial(laplace, structure="full"), [EXACT]),
    'LaplaceApproximation("kron")': (partial(laplace, structure="kron"), [EXACT]),
    'LaplaceApproximation("diag")': (partial(laplace, structure="diag"), [EXACT, MEAN_FIELD]),
    "SGLD": (sgld, [EXACT]),
    "CyclicalSGLD()": (cyclical_sgld, [EXACT]),
    "CyclicalSGLD(0.4, cycle_steps=100, exploration=0.2)": (
        # One draw of each cycle, at its end, where the steps are small.
        partial(
            cyclical_sgld, learning_rate=0.4, cycle_steps=100, exploration=0.2, thinning_steps=80
        ),
        [EXACT],
    ),
    "IVON": (ivon, [EXACT, MEAN_FIELD]),
    "SWAG": (swag, [EXACT]),
    "DenseReparameterization": (
        partial(variational, make=by_name(layers.DenseReparameterization)),
        [EXACT, MEAN_FIELD],
    ),
    "DenseFlipout": (
        partial(variational, make=by_name(layers.DenseFlipout)),
        [EXACT, MEAN_FIELD],
    ),
    'DenseVariational("multivariate_normal")': (
        partial(variational, make=all_covariances),
        [EXACT],
    ),
    "Variational(Dense)": (
        partial(variational, make=lambda units: layers.Variational(keras.layers.Dense(units))),
        [EXACT, MEAN_FIELD],
    ),
}
# The covariance of all weights of a run grows with their square, and its noise in training.
SIMULATIONS_OF_A_RUN = {'DenseVariational("multivariate_normal")': 40}


def main(
    methods: Sequence[str] = tuple(METHODS),
    simulations: int = 400,
    seed: int = 0,
    fast: bool = False,
    out: str | os.PathLike | None = None,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Prints the table and writes `posterior_certificates.json` to `out`.

    Args:
        methods: Names of `METHODS`.
        simulations: Integer, regressions in one run of a method.
        seed: Integer, of the data and of starts.
        fast: Boolean, whether to take a quarter of the simulations and a fifth of the draws or
            steps.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from method and reference to measurements.
    """
    machine, versions = conditions("tensorflow-probability")
    simulations, effort = (simulations // 4, 0.2) if fast else (simulations, 1.0)
    print(f"{machine}, {versions}; {simulations} simulations, {ROWS} rows\n")
    print("| method | reference | p of ranks | mean | sd | seconds | off by |")
    print("|---|---|---|---|---|---|---|")
    p = simulate(simulations, seed)
    results = {}
    for name in methods:
        run, references = METHODS[name]
        size = SIMULATIONS_OF_A_RUN.get(name, simulations)
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        parts = [p.part(first, first + size) for first in range(0, simulations, size)]
        draws = np.concatenate([draws_of(run(part, effort)) for part in parts], axis=-1)
        seconds = time.perf_counter() - start
        for reference in references:
            row = judge(p, draws, reference, seed)
            results[name, reference] = {**row, "seconds": seconds}
            numbers = f"{row['p']:.2g} | {row['mean']:.3f} | {row['sd']:.3f} | {seconds:.0f}"
            print(f"| `{name}` | {reference} | {numbers} | {row['off by']} |", flush=True)
    print()
    for name, reason in NO_POSTERIOR.items():
        print(f"Without a posterior: {name}, as {reason}.")
    table = {f"{name}, {reference}": row for (name, reference), row in results.items()}
    document = {"machine": machine, "versions": versions, "results": table}
    write_json(out, "posterior_certificates.json", document)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--methods", nargs="+", default=tuple(METHODS), help="names in the table")
    parser.add_argument("--simulations", type=int, default=400, help="regressions in a run")
    parser.add_argument("--seed", type=int, default=0, help="of data and starts")
    parser.add_argument("--fast", action="store_true", help="less of everything, as in tests")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
