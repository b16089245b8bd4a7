"""Seconds of `fit` to the minimum of a ridge regression, against Adam with the gradient.

The problem is the first example of kormos (https://github.com/mbhynes/kormos), a package for batch
optimizers in Keras: 1,000 rows of 50 features, mean squared error and an L2 penalty of 0.001. Its
minimum is 0.0469897; Adam, as in that example, is at 0.047008 after its 150 epochs. The searches
here take no gradients and go on to 0.046990. One step before the clock starts compiles each.

    python benchmarks/ridge.py
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line

from keras_extras.optimizers import CMAES, MonteCarloOptimizer

ROWS, FEATURES, PENALTY = 1000, 50, 1e-3

# Optimizer, batch size, the loss to reach, and the most epochs.
METHODS = {
    "Adam, with the gradient": (lambda seed: keras.optimizers.Adam(), 32, 0.047008, 250),
    "MonteCarloOptimizer": (
        lambda seed: MonteCarloOptimizer(0.05, 64, generations_per_batch=20, seed=seed),
        ROWS,
        0.046990,
        250,
    ),
    "CMAES": (lambda seed: CMAES(generations_per_batch=20, seed=seed), ROWS, 0.046990, 250),
}


def problem() -> tuple[np.ndarray, np.ndarray, float]:
    """Features, targets and the loss at the minimum."""
    generator = np.random.RandomState(1)
    weights = generator.normal(size=FEATURES)
    x = generator.normal(size=(ROWS, FEATURES))
    y = x @ weights
    ridge = np.linalg.solve(x.T @ x / ROWS + PENALTY * np.eye(FEATURES), x.T @ y / ROWS)
    minimum = np.mean((x @ ridge - y) ** 2) + PENALTY * np.sum(ridge**2)
    return x.astype("float32"), y[:, None].astype("float32"), float(minimum)


class Target(keras.callbacks.Callback):
    """Stops at a loss; evaluates it after each epoch, off the clock."""

    def __init__(self, x, y, loss: float):
        super().__init__()
        self.x, self.y, self.target = x, y, loss

    def on_train_begin(self, logs=None):
        self.seconds, self.start = 0.0, time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.perf_counter() - self.start
        self.loss = self.model.evaluate(self.x, self.y, batch_size=ROWS, verbose=0)
        self.epochs = epoch + 1
        self.model.stop_training = self.loss <= self.target
        self.start = time.perf_counter()


def run(method: str, seed: int) -> Target:
    optimizer, batch_size, loss, epochs = METHODS[method]
    x, y, _ = problem()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(
                1, use_bias=False, kernel_regularizer=keras.regularizers.L2(PENALTY)
            ),
        ]
    )
    model.compile(optimizer(seed), "mse")
    model.evaluate(x, y, batch_size=ROWS, verbose=0)
    model.fit(x[:batch_size], y[:batch_size], batch_size=batch_size, verbose=0)
    model.set_weights([np.random.random(size=(FEATURES, 1))])
    target = Target(x, y, loss)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, callbacks=[target], verbose=0)
    return target


def main(seeds: int = 3) -> dict[str, float]:
    """Prints the table; returns the median of seconds for each method."""
    print(f"minimum {problem()[2]:.7f}; medians of {seeds} seeds\n")
    print(f"{'method':26} {'loss':>10} {'epochs':>7} {'seconds':>8}")
    medians = {}
    for method in METHODS:
        runs = [run(method, seed) for seed in range(seeds)]
        worst = max(r.loss for r in runs)
        epochs = statistics.median(r.epochs for r in runs)
        medians[method] = statistics.median(r.seconds for r in runs)
        print(f"{method:26} {worst:10.6f} {epochs:7.0f} {medians[method]:8.2f}", flush=True)
    return medians


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how often, each from new weights")
    main(**vars(parser.parse_args()))
