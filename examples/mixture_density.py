"""Photometric redshifts: a regression with several right answers, by mixture density networks.

A telescope measures the brightness of a galaxy in six broad bands. Its redshift moves the steps
of its spectrum through the bands, and two steps can be mistaken for each other: the 4000 Angstrom
break of an old galaxy nearby looks like the Lyman break of a young one far away. So for one set of
colors there are several redshifts, and a network with one normal distribution at its end can only
spread over them. Here it is compared with mixtures of normal and of logistic distributions.

The galaxies are simulated. The redshifts z follow n(z) ~ z^2 exp(-(z / 0.7)^1.2), as in deep
surveys. A spectrum in the rest frame is a power law in frequency with a step at 4000 Angstrom (old
stars), the mean absorption of intergalactic hydrogen below 1216 Angstrom (optical depth
0.0036 (1 + z)^3.46, Madau 1995) and no light below 912 Angstrom. It is shifted by 1 + z, dimmed by
dust, summed over top-hat filters u, g, r, i, z, y and measured with noise; some galaxies
have a second one in front of them, which gives the errors their heavy tails.

    python examples/mixture_density.py            # about a minute
    python examples/mixture_density.py --fast     # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_extras
from keras_extras import visualization

COLORS = visualization.figures.COLORS
# Edges of the filters in Angstrom, close to those of the Rubin observatory's camera.
FILTERS = ((3300, 4000), (4000, 5500), (5500, 7000), (7000, 8200), (8200, 9200), (9200, 10500))
COMPONENTS = 6


def sample_redshifts(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws of n(z) on 0.02 < z < 4, by the inverse of the summed density."""
    grid = np.linspace(0.02, 4.0, 4001)
    density = grid**2 * np.exp(-((grid / 0.7) ** 1.2))
    return np.interp(generator.uniform(size=count), np.cumsum(density) / density.sum(), grid)


def fluxes(redshift: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noiseless fluxes in the six filters, of galaxies of random age, slope and dust."""
    count = len(redshift)
    age = generator.beta(1.2, 1.2, size=(count, 1, 1))
    slope = -1.0 + 2.5 * age + 0.2 * generator.normal(size=(count, 1, 1))
    dust = 0.3 * generator.exponential(size=(count, 1, 1)) * (1.0 - age)
    observed = np.stack([np.linspace(*edges, 24) for edges in FILTERS])[None]
    stretch = 1.0 + redshift[:, None, None]
    rest = observed / stretch
    spectrum = (rest / 4000.0) ** slope
    spectrum *= np.where(rest < 4000.0, 1.0 - 0.65 * age, 1.0)
    hydrogen = np.exp(-0.0036 * (observed / 1216.0) ** 3.46)
    spectrum *= np.where(rest < 1216.0, hydrogen, 1.0) * (rest > 912.0)
    spectrum *= np.exp(-dust * (4000.0 / rest) ** 0.7)
    return spectrum.mean(axis=-1)


def simulate(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Six magnitudes, standardized, and the redshift of each galaxy."""
    generator = np.random.default_rng(seed)
    redshift = sample_redshifts(count, generator)
    flux = fluxes(redshift, generator)
    # In magnitudes, faint ones being many; the i band sets the scale.
    magnitude = 25.3 + 1.2 * np.log10(generator.uniform(0.02, 1.0, size=count))
    flux *= 10 ** (-0.4 * (magnitude - 25.0))[:, None] / flux[:, 3:4]
    blended = generator.uniform(size=count) < 0.03
    neighbor = fluxes(sample_redshifts(count, generator), generator)
    share = (blended * generator.uniform(0.0, 0.6, size=count))[:, None] * flux[:, 3:4]
    flux += share * neighbor / neighbor[:, 3:4]
    noise = 0.06 + 0.02 * np.sqrt(flux)
    flux += noise * generator.normal(size=flux.shape)
    # asinh magnitudes (Lupton, Gunn and Szalay 1999): defined for negative fluxes too.
    magnitudes = np.arcsinh(flux / 0.12)
    colors = np.diff(magnitudes, axis=1)
    features = np.concatenate([colors, magnitudes[:, 3:4]], axis=1)
    return features.astype("float32"), redshift.astype("float32")


def make_models(seed: int) -> dict[str, keras.Model]:
    """Networks that differ in their last two layers only."""
    layers, losses = keras_extras.layers, keras_extras.losses
    heads = {
        "one normal": layers.IndependentNormal(seed=seed),
        "mixture of normals": layers.MixtureNormal(COMPONENTS, seed=seed),
        "mixture of logistics": layers.MixtureLogistic(COMPONENTS, seed=seed),
    }
    sizes = {
        "one normal": layers.IndependentNormal.params_size(),
        "mixture of normals": layers.MixtureNormal.params_size(COMPONENTS),
        "mixture of logistics": layers.MixtureLogistic.params_size(COMPONENTS),
    }
    models = {}
    for name, head in heads.items():
        keras.utils.set_random_seed(seed)
        models[name] = keras.Sequential(
            [
                keras.layers.Normalization(),
                keras.layers.Dense(96, activation="gelu"),
                keras.layers.Dense(96, activation="gelu"),
                keras.layers.Dense(sizes[name]),
                head,
            ]
        )
        models[name].compile(loss=losses.NegativeLogLikelihood())
    return models


def train(
    models: dict[str, keras.Model], x: np.ndarray, z: np.ndarray, epochs: int
) -> dict[str, dict[str, list[float]]]:
    """Trains each model with Adam and a cosine schedule; returns the histories."""
    batch = 256
    histories = {}
    for name, model in models.items():
        model.layers[0].adapt(x)
        steps = epochs * len(x) // batch
        rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), model.loss)
        print(f"Training: {name}")
        fit = model.fit(x, z, batch_size=batch, epochs=epochs, validation_split=0.1, verbose=0)
        histories[name] = fit.history
    return histories


def judge(models: dict[str, keras.Model], x: np.ndarray, z: np.ndarray) -> dict[str, dict]:
    """Scores on galaxies that no model has seen."""
    metrics = keras_extras.metrics
    table = {}
    for name, model in models.items():
        model.compile(
            metrics=[
                metrics.NegativeLogLikelihood(),
                metrics.ContinuousRankedProbabilityScore(),
                metrics.IntervalCoverage(0.9),
                metrics.IntervalWidth(0.9),
            ],
            loss=model.loss,
        )
        scores = model.evaluate(x, z, batch_size=1024, verbose=0, return_dict=True)
        table[name] = {key: value for key, value in scores.items() if key != "loss"}
    return table


def two_sided(model: keras.Model, x: np.ndarray, count: int) -> np.ndarray:
    """Rows whose distributions have the two greatest modes far apart, the clearest first."""
    grid = np.linspace(0.0, 4.0, 161, dtype="float32")
    density = np.asarray(model(x).prob(grid[:, None]))
    low, high = density[grid < 1.1].max(axis=0), density[grid > 1.6].max(axis=0)
    return np.argsort(-np.minimum(low, high))[:count]


def draw(models: dict[str, keras.Model], x: np.ndarray, z: np.ndarray) -> dict[str, Any]:
    """The figures: densities of single galaxies, all galaxies, and calibration."""
    best = models["mixture of normals"]
    densities = visualization.figures.make_figure(10, 5)
    grid = np.linspace(0.0, 4.0, 401, dtype="float32")
    axes = densities.subplots(2, 3, sharex=True)
    for ax, row in zip(axes.ravel(), two_sided(best, x[:2000], 6)):
        visualization.figures.style_axes(ax)
        for color, (name, model) in zip(COLORS, models.items()):
            density = np.ravel(model(x[row : row + 1]).prob(grid[:, None]))
            ax.plot(grid, density, color=color, label=name)
        ax.axvline(z[row], color="0.3", linestyle=":", label="true redshift")
        ax.set_yticks([])
    axes[0, 0].legend(fontsize=7, frameon=False)
    densities.supxlabel("redshift")
    densities.supylabel("predicted density")

    plane = visualization.figures.make_figure(10, 3.8)
    for ax, (name, model) in zip(plane.subplots(1, 3, sharey=True), models.items()):
        visualization.figures.style_axes(ax)
        rows = np.argsort(z[:3000])
        ax.scatter(z[rows], np.ravel(model(x[rows]).sample()), s=2, color=COLORS[0], alpha=0.4)
        ax.set(title=name, xlabel="true redshift", xlim=(0, 4), ylim=(-0.5, 4.5))
    plane.axes[0].set_ylabel("one draw of the prediction")

    calibration = visualization.figures.make_figure(10, 3.4)
    for ax, (name, model) in zip(calibration.subplots(1, 3, sharey=True), models.items()):
        visualization.PITHistogram.from_distribution(z, model(x), num_bins=20).plot(ax=ax)
        ax.get_legend().remove()
        ax.set_title(name)
    calibration.suptitle("calibrated predictions: even bars, 95% of them in the grey band")
    return {"densities": densities, "redshifts": plane, "calibration": calibration}


def main(
    galaxies: int = 60_000,
    epochs: int = 20,
    out: str | Path = "outputs/mixture_density",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, dict[str, float]]:
    """Runs the example and returns the table that it prints."""
    galaxies, epochs = (3_000, 2) if fast else (galaxies, epochs)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    x, z = simulate(galaxies, seed)
    x_test, z_test = simulate(max(galaxies // 10, 500), seed + 1)

    models = make_models(seed)
    histories = train(models, x, z, epochs)
    table = judge(models, x_test, z_test)
    figures = draw(models, x_test, z_test)
    figures["loss"] = visualization.plot_history(histories)
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")

    print(f"\n{'on ' + format(len(z_test), ',') + ' unseen galaxies':26}", end="")
    print(f"{'NLL':>9}{'CRPS':>9}{'90% holds':>11}{'width':>8}")
    for name, scores in table.items():
        print(
            f"{name:26}{scores['nll']:9.3f}{scores['crps']:9.4f}"
            f"{scores['interval_coverage']:11.3f}{scores['interval_width']:8.3f}"
        )
    print(f"Written to {out}: {', '.join(f'{name}.png' for name in figures)}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--galaxies", type=int, default=60_000, help="to train with")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="outputs/mixture_density", help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few galaxies, few epochs")
    main(**vars(parser.parse_args()))
