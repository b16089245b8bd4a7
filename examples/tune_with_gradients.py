"""Widths by an oracle, learning rates and penalties by their gradients.

For the 8 x 8 images of scikit-learn's digits a `HypergradientTuner` tries five networks. The oracle
of keras-tuner samples what is discrete, their width, depth and activation. In each trial the
learning rate of each of 200 steps, the momentum and one penalty for each kernel descend the
gradient of the validation loss through the whole training.

    python examples/tune_with_gradients.py           # a minute
    python examples/tune_with_gradients.py --fast    # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import tuners, unrolled, visualization


def load_data() -> list[tuple]:
    """Training, validation and test rows."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    x, x_test, y, y_test = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    return [(x, y), (x_val, y_val), (x_test, y_test)]


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    """What is discrete. The tuner puts what it learns in the place of the optimizer's settings."""
    layers = [keras.Input((64,))]
    for _ in range(hp.Int("hidden_layers", 1, 2)):
        units, activation = hp.Choice("units", [16, 32, 64]), hp.Choice("act", ["tanh", "relu"])
        layers.append(keras.layers.Dense(units, activation=activation))
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.SGD(momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(
    trials: int = 5, out: str | Path = "outputs/tune_with_gradients", fast: bool = False
) -> dict[str, Any]:
    """Runs the example and returns what it found."""
    out = Path(out)
    steps, meta_steps, trials = (20, 2, 1) if fast else (200, 30, trials)
    (x, y), validation, test = load_data()
    starts = {"learning_rate": unrolled.PerStep(0.05), "momentum": 0.5, "l2/*kernel": 1e-4}
    tuner = tuners.HypergradientTuner(
        keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=trials, seed=1),
        build,
        starts,
        steps,
        batch_size=100,
        meta_steps=meta_steps,
        directory=out,
        project_name="search",
        overwrite=True,
    )
    tuner.search(x, y, validation_data=validation, verbose=0)

    print(tuners.SearchReport.from_tuner(tuner))
    best = tuner.oracle.get_best_trials()[0]
    learned = tuner.learned(best)
    model = tuner.get_best_models()[0]
    scores = model.evaluate(*test, verbose=0, return_dict=True)
    print(f"\nThe best on test rows: loss {scores['loss']:.3f}, accuracy {scores['accuracy']:.1%}")
    for name, value in learned.items():
        if not value.ndim:
            print(f"{name}: {float(value):.2g}")
    rates = learned["learning_rate"]
    print(f"learning rates: from {rates[0]:.2g} to {rates[-1]:.2g}, at most {rates.max():.2g}")
    start = {"learning_rate": starts["learning_rate"].expand(steps), "momentum": starts["momentum"]}
    figure = visualization.plot_schedules({"start": start, "learned": learned})
    visualization.save_figure(figure, out / "schedule.png")
    model.save(out / "model.keras")
    print(f"Written to {out}: schedule.png, model.keras")
    return {"validation loss": best.score, "learned": learned, **scores}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--out", default="outputs/tune_with_gradients", help="folder of figures")
    parser.add_argument("--fast", action="store_true", help="one trial of few steps")
    main(**vars(parser.parse_args()))
