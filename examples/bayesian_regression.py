"""Regression that says how sure it is, in five steps: from a line to a distribution of curves.

The data are simulated: y follows a curve of x, and its noise grows towards both ends of the
range, which single numbers as predictions cannot show. Each case is a model of the same data:

- none: a line, and the same noise everywhere. The uncertainty is not learned.
- aleatoric: a line, and a network for the noise. What the data leave open is learned, as it would
  stay open with any number of rows.
- epistemic: a distribution of lines, and the same noise everywhere. What the rows leave open about
  the line is learned, as more of them would settle it.
- both: a distribution of lines, and a network for the noise.
- function space: a Gaussian process, a distribution of curves instead of weights.

    python examples/bayesian_regression.py                     # all cases, about a minute
    python examples/bayesian_regression.py --cases aleatoric   # some of them
    python examples/bayesian_regression.py --fast              # a smoke test of a few seconds
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_extras
from keras_extras import tfp, visualization

tfd = tfp.distributions
LOWEST, HIGHEST = -20.0, 60.0
BATCH = 25


def simulate(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x and y: a line that oscillates, and noise that grows away from x = 10."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(LOWEST, HIGHEST, size=(rows, 1))
    noise = 0.6 + 0.002 * (x - 10.0) ** 2
    y = 5.0 + 0.125 * x * (1.0 + np.sin(x / 3.0)) + noise * generator.normal(size=(rows, 1))
    return x.astype("float32"), y.astype("float32")


def no_uncertainty() -> keras.Model:
    """A line with noise of a fixed size."""
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Rescaling(1 / 40.0),
            keras.layers.Dense(1),
            keras_extras.layers.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1.0)),
        ]
    )


def aleatoric_uncertainty() -> keras.Model:
    """A line whose noise is a function of x, learned along with it."""
    inputs = keras.Input((1,))
    scaled = keras.layers.Rescaling(1 / 40.0)(inputs)
    hidden = keras.layers.Dense(32, activation="tanh")(scaled)
    parameters = keras.layers.Concatenate()(
        [keras.layers.Dense(1)(scaled), keras.layers.Dense(1)(hidden)]
    )
    outputs = keras_extras.layers.DistributionLambda(
        lambda t: tfd.Normal(loc=t[..., :1], scale=1e-3 + keras.ops.softplus(t[..., 1:]))
    )(parameters)
    return keras.Model(inputs, outputs)


def epistemic_uncertainty() -> keras.Model:
    """A line whose slope and intercept have a posterior, with noise of a fixed size."""
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Rescaling(1 / 40.0),
            keras_extras.layers.DenseVariational(
                1, posterior="multivariate_normal", kl_weight="auto", kl_use_exact=True
            ),
            keras_extras.layers.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1.0)),
        ]
    )


def both_uncertainties() -> keras.Model:
    """A line whose slope and intercept have a posterior, and noise that is a function of x."""
    inputs = keras.Input((1,))
    scaled = keras.layers.Rescaling(1 / 40.0)(inputs)
    line = keras_extras.layers.DenseVariational(
        1, posterior="multivariate_normal", kl_weight="auto", kl_use_exact=True
    )
    hidden = keras.layers.Dense(32, activation="tanh")(scaled)
    parameters = keras.layers.Concatenate()([line(scaled), keras.layers.Dense(1)(hidden)])
    return keras.Model(inputs, keras_extras.layers.IndependentNormal(1)(parameters))


def function_space() -> keras.Model:
    """A Gaussian process through 16 inducing points."""
    places = np.linspace(LOWEST / 40.0, HIGHEST / 40.0, 16)[:, None]
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Rescaling(1 / 40.0),
            keras_extras.layers.VariationalGaussianProcess(
                16,
                keras_extras.layers.ExponentiatedQuadraticKernel(),
                inducing_index_points_initializer=keras.initializers.Constant(places),
                unconstrained_observation_noise_variance_initializer="zeros",
                jitter=1e-3,
            ),
        ]
    )


CASES: dict[str, Callable[[], keras.Model]] = {
    "none": no_uncertainty,
    "aleatoric": aleatoric_uncertainty,
    "epistemic": epistemic_uncertainty,
    "both": both_uncertainties,
    "function space": function_space,
}


def loss_of(model: keras.Model, share: float) -> Callable:
    """The negative log-likelihood, or of the process the evidence bound of a share of the rows."""
    if isinstance(model.layers[-1], keras_extras.layers.VariationalGaussianProcess):
        return lambda y, rv_y: rv_y.variational_loss(y, kl_weight=share)
    return lambda y, rv_y: -rv_y.log_prob(y)


def predict(model: keras.Model, x: np.ndarray) -> tfd.Distribution:
    """The distribution of each row by itself, averaged over draws of uncertain weights."""
    head = model.layers[-1]
    if isinstance(head, keras_extras.layers.VariationalGaussianProcess):
        process = model(x)  # the joint distribution of all rows
        return tfd.Normal(process.mean(), process.stddev())
    return keras_extras.predict_distribution(model, x, num_samples=200, seed=0)


def score(y: np.ndarray, prediction: tfd.Distribution) -> dict[str, float]:
    """What the table shows of predictions for rows that were not trained with."""
    metrics = {
        "nll": keras_extras.metrics.NegativeLogLikelihood(),
        "crps": keras_extras.metrics.ContinuousRankedProbabilityScore(),
        "interval_coverage": keras_extras.metrics.IntervalCoverage(0.9),
        "interval_width": keras_extras.metrics.IntervalWidth(0.9),
    }
    for metric in metrics.values():
        metric.update_state(y, prediction)
    return {name: float(metric.result()) for name, metric in metrics.items()}


def main(
    cases: Sequence[str] = tuple(CASES),
    rows: int = 100,
    epochs: int = 500,
    out: str | Path = "outputs/bayesian_regression",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, dict[str, float]]:
    """Runs the example and returns the table that it prints."""
    rows, epochs = (50, 3) if fast else (rows, epochs)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    x, y = simulate(rows, seed)
    x_test, y_test = simulate(1000, seed + 1)
    grid = np.linspace(LOWEST, HIGHEST, 200, dtype="float32")[:, None]

    table, histories = {}, {}
    bands = visualization.figures.make_figure(4.5 * len(cases), 4)
    calibration = visualization.figures.make_figure(4 * len(cases), 4)
    panels = zip(
        bands.subplots(1, len(cases), sharey=True, squeeze=False)[0],
        calibration.subplots(1, len(cases), sharey=True, squeeze=False)[0],
    )
    for name, (band_ax, calibration_ax) in zip(cases, panels):
        keras.utils.set_random_seed(seed)
        model = CASES[name]()
        batches = -(-rows // BATCH)
        model.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, epochs * batches)),
            loss=loss_of(model, BATCH / rows),
            steps_per_execution=batches,
        )
        print(f"Training: {name}")
        histories[name] = model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0).history
        table[name] = score(y_test, predict(model, x_test))
        prediction = predict(model, grid)
        visualization.PredictionBands.from_distribution(grid, prediction).plot(
            ax=band_ax, x_train=x, y_train=y
        )
        if getattr(prediction, "num_samples", 1) > 1:  # the lines of some draws of the weights
            lines = prediction.components_distribution.mean()[:, ::10, 0]
            band_ax.plot(grid, lines, color="C1", linewidth=0.6, alpha=0.7)
        band_ax.set_title(name)
        visualization.QuantileCalibration.from_distribution(y_test, predict(model, x_test)).plot(
            ax=calibration_ax
        )
        calibration_ax.set_title(name)

    figures = {
        "bands": bands,
        "calibration": calibration,
        "loss": visualization.plot_history(histories),
    }
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")
    print(f"\n{'uncertainty':14}{'NLL':>9}{'CRPS':>9}{'90% holds':>11}{'width':>8}")
    for name, scores in table.items():
        print(
            f"{name:14}{scores['nll']:9.3f}{scores['crps']:9.4f}"
            f"{scores['interval_coverage']:11.3f}{scores['interval_width']:8.3f}"
        )
    print(f"Written to {out}: {', '.join(f'{name}.png' for name in figures)}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rows", type=int, default=100, help="to train with")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--out", default="outputs/bayesian_regression", help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few rows, few epochs")
    main(**vars(parser.parse_args()))
