"""A variational autoencoder of handwritten digits, with distributions in the middle and at the end.

The encoder's output is a distribution over two latent variables; its KL divergence from a standard
normal prior is the encoder's activity regularizer. What the decoder is given is a draw of it. The
decoder's output is a distribution over images of 8 x 8 pixels, each lit or not, and the loss
is its negative log-likelihood: together, minus the evidence lower bound (Kingma and Welling 2014,
arXiv:1312.6114). The digits come with scikit-learn.

    python examples/variational_autoencoder.py            # about half a minute
    python examples/variational_autoencoder.py --fast     # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_extras
from keras_extras import tfp, visualization

tfd = tfp.distributions

LATENTS = 2
SHAPE = (8, 8, 1)


def load_images(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits in random order, pixels lit or not, and which digit each one is."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    lit = (images > 7.5).astype("float32")
    return lit[order].reshape(-1, *SHAPE), labels[order]


def make_models(seed: int) -> tuple[keras.Model, keras.Model, keras.Model]:
    """The encoder, the decoder, and both in a row."""
    keras.utils.set_random_seed(seed)
    layers = keras_extras.layers
    prior = tfd.MultivariateNormalDiag([0.0] * LATENTS)
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="gelu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="gelu"),
            keras.layers.Dense(layers.MultivariateNormalTriL.params_size(LATENTS)),
            layers.MultivariateNormalTriL(
                LATENTS, activity_regularizer=layers.KLDivergenceRegularizer(prior)
            ),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((LATENTS,)),
            keras.layers.Dense(64, activation="gelu"),
            keras.layers.Dense(4 * 4 * 32, activation="gelu"),
            keras.layers.Reshape((4, 4, 32)),
            keras.layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="gelu"),
            keras.layers.Conv2D(1, 3, padding="same"),
            keras.layers.Flatten(),
            layers.IndependentBernoulli(SHAPE, convert_to_tensor_fn="mean"),
        ],
        name="decoder",
    )
    autoencoder = keras.Model(encoder.inputs[0], decoder(encoder.outputs[0]))
    return encoder, decoder, autoencoder


def draw(
    encoder: keras.Model, decoder: keras.Model, images: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Figures of new digits, of images and their reconstructions, and of the latent plane."""
    draws = np.random.default_rng(0).normal(size=(48, LATENTS)).astype("float32")
    samples = _tiles(np.asarray(decoder(draws).mean()).reshape(4, 12, 8, 8))
    rows = np.concatenate([images[:12], np.asarray(decoder(encoder(images[:12]).mean()).mean())])
    reconstructions = _tiles(rows.reshape(2, 12, 8, 8))

    plane = visualization.figures.make_figure(11, 5)
    scatter, atlas = plane.subplots(1, 2)
    visualization.figures.style_axes(scatter)
    means = np.asarray(encoder(images).mean())
    points = scatter.scatter(*means.T, c=labels, s=9, cmap="tab10")
    plane.colorbar(points, ax=scatter, ticks=range(10), label="digit")
    scatter.set(xlabel="first latent", ylabel="second latent", title="Images by their mean")
    # The grid in equal steps of probability under the prior.
    steps = np.asarray(tfd.Normal(0.0, 1.0).quantile((np.arange(15) + 0.5) / 15.0), "float32")
    grid = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, LATENTS)
    _show(atlas, _mosaic(np.asarray(decoder(grid).mean()).reshape(15, 15, 8, 8)))
    atlas.set_title("What the decoder makes of the plane")
    return {"samples": samples, "reconstructions": reconstructions, "latent_plane": plane}


def _mosaic(images):
    rows, columns, height, width = images.shape
    return images.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)


def _tiles(images):
    figure = visualization.figures.make_figure(9, 9 * images.shape[0] / images.shape[1])
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    _show(figure.subplots(), _mosaic(framed))
    return figure


def _show(ax, image):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    ax.set_axis_off()


def main(
    epochs: int = 120,
    out: str | Path = "outputs/variational_autoencoder",
    seed: int = 0,
    fast: bool = False,
) -> dict[str, float]:
    """Runs the example and returns the bounds on the log-likelihood of an image, in nats."""
    epochs = 2 if fast else epochs
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    images, labels = load_images(seed)
    train, test = images[:1500], images[1500:]

    encoder, decoder, autoencoder = make_models(seed)
    nll = keras_extras.losses.NegativeLogLikelihood()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(train) // 64))
    autoencoder.compile(keras.optimizers.Adam(rate), nll)
    print(f"Training for {epochs} epochs")
    history = autoencoder.fit(
        train, train, batch_size=64, epochs=epochs, validation_data=(test, test), verbose=0
    )
    autoencoder.save(out / "autoencoder.keras")

    bounds = {
        "training images": -autoencoder.evaluate(train, train, batch_size=64, verbose=0),
        "unseen images": -autoencoder.evaluate(test, test, batch_size=64, verbose=0),
    }
    pixels = np.clip(train.mean(axis=0), 1e-3, 1 - 1e-3)
    alone = tfd.Independent(tfd.Bernoulli(probs=pixels, dtype="float32"), 3)
    bounds["unseen images, pixels without a network"] = float(np.mean(alone.log_prob(test)))

    figures = draw(encoder, decoder, images, labels)
    figures["loss"] = visualization.plot_history({"autoencoder": history.history})
    for name, figure in figures.items():
        visualization.save_figure(figure, out / f"{name}.png")
    print("\nlog-likelihood of an image, lower bound in nats")
    for name, bound in bounds.items():
        print(f"{name:42}{bound:8.2f}")
    print(f"Written to {out}: autoencoder.keras, {', '.join(f'{name}.png' for name in figures)}")
    return bounds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--out", default="outputs/variational_autoencoder", help="for figures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="few epochs")
    main(**vars(parser.parse_args()))
