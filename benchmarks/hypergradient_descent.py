"""Learning rates that adapt themselves, against the same optimizers without.

The first table is logistic regression on digits (1,797 rows, batches of 128, 10 epochs) from
initial learning rates of 1e-6 to 1e-2: the training loss at the end, and where the rate ended.
The second is the set-up of Baydin et al. (2018), figure 2, with digits in the place of MNIST:
inputs of mean 0 and variance 1, batches of 128, L2 of 1e-4, learning rate 0.001, and as many
updates as 10 epochs of MNIST take (4,690); the validation loss is that of 360 rows left out.
`hypergradient_learning_rate` has its defaults, which are the authors': 0.001, and 1e-7 for Adam;
`--times` multiplies both.

    python benchmarks/hypergradient_descent.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from common import command_line
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_extras.optimizers import HypergradientAdam, HypergradientSGD

RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
BATCH = 128
MNIST_UPDATES = 4690

NESTEROV = {"momentum": 0.9, "nesterov": True}
# Plain and adaptive optimizer, their arguments, and the rate of the learning rate.
PAIRS = {
    "SGD": (keras.optimizers.SGD, HypergradientSGD, {}, 1e-3),
    "Nesterov": (keras.optimizers.SGD, HypergradientSGD, NESTEROV, 1e-3),
    "Adam": (keras.optimizers.Adam, HypergradientAdam, {}, 1e-7),
}


def optimizers(name: str, rate: float, times: float) -> tuple:
    """The plain and the adaptive optimizer of a pair."""
    plain, adaptive, arguments, hyper_rate = PAIRS[name]
    return plain(rate, **arguments), adaptive(
        rate, **arguments, hypergradient_learning_rate=times * hyper_rate
    )


def train(optimizer, x, y, epochs: int, penalty: float = 0.0) -> keras.Model:
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.L2(penalty)
    dense = keras.layers.Dense(10, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((64,)), dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=-(-len(x) // BATCH))
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def initial_rates(epochs: int, times: float) -> dict[str, list[tuple[float, float]]]:
    """The final training losses, plain and adaptive, for each optimizer and rate."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    print(f"training loss after {epochs} epochs, by initial learning rate\n")
    print(f"{'':10}{'rate':>8} {'plain':>8} {'adaptive':>9} {'last rate':>10}")
    results = {}
    for name in PAIRS:
        results[name] = []
        for rate in RATES:
            models = [train(o, x, y, epochs) for o in optimizers(name, rate, times)]
            losses = tuple(m.evaluate(x, y, batch_size=len(x), verbose=0) for m in models)
            results[name].append(losses)
            last = float(models[1].optimizer.learning_rate)
            print(
                f"{name:10}{rate:8.0e} {losses[0]:8.4f} {losses[1]:9.4f} {last:10.2g}", flush=True
            )
    return results


def authors_setting(updates: int, times: float) -> dict[str, tuple[float, float]]:
    """The validation losses, plain and adaptive, for each optimizer."""
    x, y = load_digits(return_X_y=True)
    x, x_left, y, y_left = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    mean, stddev = x.mean(), x.std()
    x, x_left = (((part - mean) / stddev).astype("float32") for part in (x, x_left))
    epochs = -(-updates * BATCH // len(x))
    print(f"\nvalidation loss after {updates:,} updates, from 0.001\n")
    print(f"{'':10}{'plain':>8} {'adaptive':>9} {'improved by':>12} {'last rate':>10}")
    results = {}
    for name in PAIRS:
        models = [train(o, x, y, epochs, 1e-4) for o in optimizers(name, 1e-3, times)]
        losses = tuple(m.evaluate(x_left, y_left, batch_size=360, verbose=0) for m in models)
        results[name] = losses
        last = float(models[1].optimizer.learning_rate)
        gain = losses[0] - losses[1]
        print(f"{name:10}{losses[0]:8.4f} {losses[1]:9.4f} {gain:12.4f} {last:10.2g}", flush=True)
    return results


def main(epochs: int = 10, updates: int = MNIST_UPDATES, times: float = 1.0) -> tuple[dict, dict]:
    """Prints both tables; returns the losses, plain and adaptive."""
    return initial_rates(epochs, times), authors_setting(updates, times)


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="of the first table")
    parser.add_argument("--updates", type=int, default=MNIST_UPDATES, help="of the second table")
    parser.add_argument("--times", type=float, default=1.0, help="the default rates of the rates")
    main(**vars(parser.parse_args()))
