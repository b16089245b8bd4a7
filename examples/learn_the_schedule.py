"""A learning-rate schedule, a momentum and penalties that are learned by their hypergradients.

The 8 x 8 images of scikit-learn's digits, two thirds to train on and a third for validation:

1. A network 64-50-10 is trained for 200 steps on batches of 100. The learning rate of each step and
   the momentum descend the gradient of the validation loss through all 200 steps, 30 times.
2. Logistic regression 64-10 gets an L2 penalty for each of its 650 weights, all equal at the start.
   The validation loss lowers those of pixels that tell digits apart; pixels that are blank in all
   training images keep high ones.

    python examples/learn_the_schedule.py           # half a minute
    python examples/learn_the_schedule.py --fast    # a smoke test of a few seconds
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras import unrolled, visualization

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def load_data() -> dict:
    """Arguments of `UnrolledTraining.fit`."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    x, x_val, y, y_val = train_test_split(x, y, test_size=1 / 3, stratify=y, random_state=0)
    return {"x": x, "y": y, "validation_data": (x_val, y_val)}


def schedule_training(steps: int) -> unrolled.UnrolledTraining:
    """The network, with a learning rate for each step and a momentum to learn."""
    keras.utils.set_random_seed(0)
    network = [keras.layers.Dense(50, activation="tanh"), keras.layers.Dense(10)]
    return unrolled.UnrolledTraining(
        keras.Sequential([keras.Input((64,)), *network]),
        keras.optimizers.SGD(momentum=0.5),
        LOSS,
        steps,
        {"learning_rate": unrolled.PerStep(0.05), "momentum": 0.5},
        batch_size=100,
    )


def penalty_training(steps: int) -> unrolled.UnrolledTraining:
    """Logistic regression, with a penalty for each weight to learn."""
    keras.utils.set_random_seed(0)
    return unrolled.UnrolledTraining(
        keras.Sequential(
            [keras.Input((64,)), keras.layers.Dense(10, name="dense")], name="logistic"
        ),
        keras.optimizers.SGD(0.1, momentum=0.9),
        LOSS,
        steps,
        {"l2/*": unrolled.PerWeight(1e-2)},
        batch_size=100,
    )


def learn(training: unrolled.UnrolledTraining, data: dict, rate: float, meta_steps: int) -> dict:
    """Descends the hypergradient; prints and returns the validation loss before and after."""
    history = training.fit(
        **data, meta_optimizer=keras.optimizers.Adam(rate), meta_steps=meta_steps, verbose=0
    )
    losses = history.history["val_loss"]
    print(f"validation loss {losses[0]:.3f} -> {losses[-1]:.3f} in {meta_steps} meta-steps")
    return history.history


def plot_penalties(penalties: np.ndarray, blank: np.ndarray) -> Figure:
    """The mean learned penalty of each pixel, with crosses on those that are blank in training."""
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(np.log10(penalties).reshape(8, 8))
    rows, columns = np.nonzero(blank.reshape(8, 8))
    ax.plot(columns, rows, "x", color="red", label="blank in all training images")
    ax.set(xticks=[], yticks=[], title="log10 of the penalty, mean over digits")
    figure.colorbar(image)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    return figure


def main(out: str | Path = "outputs/learn_the_schedule", fast: bool = False) -> dict[str, float]:
    """Runs the example and returns its numbers."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    steps, meta_steps = (20, 3) if fast else (200, 30)
    data = load_data()

    print(f"{steps} learning rates and the momentum, 64-50-10:", end=" ", flush=True)
    training = schedule_training(steps)
    start = training.hyperparameters
    losses = learn(training, data, 0.1, meta_steps)["val_loss"]
    learned = training.hyperparameters
    print(f"momentum {start['momentum']:.2f} -> {learned['momentum']:.2f}")
    figure = visualization.plot_schedules({"start": start, "learned": learned})
    visualization.save_figure(figure, out / "schedule.png")

    print("650 penalties, 64-10:", end=" ", flush=True)
    training = penalty_training(steps)
    penalty_losses = learn(training, data, 0.2, meta_steps)["val_loss"]
    kernel = training.hyperparameters["l2/logistic/dense/kernel"]
    penalties = np.exp(np.log(kernel).mean(axis=1))
    blank = data["x"].max(axis=0) == 0
    means = {
        name: float(penalties[rows].mean()) for name, rows in (("blank", blank), ("other", ~blank))
    }
    print(f"mean penalty: blank pixels {means['blank']:.2g}, others {means['other']:.2g}")
    visualization.save_figure(plot_penalties(penalties, blank), out / "penalties.png")
    return {
        "before": losses[0],
        "after": losses[-1],
        "penalties before": penalty_losses[0],
        "penalties after": penalty_losses[-1],
        **means,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="outputs/learn_the_schedule", help="folder of figures")
    parser.add_argument("--fast", action="store_true", help="few steps, few meta-steps")
    main(**vars(parser.parse_args()))
