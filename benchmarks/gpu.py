"""An accelerator on JAX: searches without gradients, heads, Bayesian layers and chains.

Needs JAX, Keras, TensorFlow Probability, ArviZ and NumPy, and no TensorFlow. Without an accelerator
it runs small sizes on the CPU and says so.

- `throughput`: candidates a second in steps of `fit`'s own compiled function, against population,
  batch, network and noise, in float32 and with `mixed_bfloat16`; the share of the peak is that of
  the products of the forward passes, two operations for each weight, row and candidate, over what
  one large product of float32 matrices reached in the same run.
- `distributions`: seconds of a step of `fit` with a head, with the same loss written by hand, and
  with Bayesian layers; effective samples a second of NUTS over the weights of a small network.
- `target`: seconds of `fit`, compilation apart, until the autoencoder 30-10-30 of
  `derivative_free.py` is within 1.003 times the error of PCA.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --parts target --data PATH      # a CSV of the Higgs challenge
"""

import datetime
import functools
import itertools
import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from common import command_line
from common.step_times import StepTimes

import keras_extras
from keras_extras.optimizers import MonteCarloOptimizer

NETWORKS = {"64-32-10": (64, 32, 10), "784-256-128-10": (784, 256, 128, 10)}
ACCELERATOR = jax.default_backend() != "cpu"
POPULATIONS = (1024, 4096, 16384) if ACCELERATOR else (128, 512)
BATCHES = (256, 1024) if ACCELERATOR else (64, 256)
NOISES = ("orthogonal", "low_rank")
POLICIES = ("float32", "mixed_bfloat16")
TARGET = 1.003


def peak() -> float:
    """Operations a second of a product of two large float32 matrices."""
    size = 8192 if ACCELERATOR else 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda a: a @ a)
    multiply(a).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        multiply(a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)


def candidates_a_second(widths, batch: int, population: int, noise: str, policy: str) -> float:
    """From the median of the steps of `fit` that come after compilation."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
    model = keras.Sequential(
        [keras.Input(widths[:1]), *hidden, keras.layers.Dense(widths[-1], dtype="float32")]
    )
    generations = 10
    optimizer = MonteCarloOptimizer(
        population_size=population, generations_per_batch=generations, noise=noise, seed=0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=True)
    rng = np.random.default_rng(0)
    steps = 12 if ACCELERATOR else 3
    x = rng.normal(size=(steps * batch, widths[0])).astype("float32")
    y = rng.integers(0, widths[-1], len(x))
    times = StepTimes()
    model.fit(x, y, batch_size=batch, callbacks=[times], shuffle=False, verbose=0)
    keras.config.set_dtype_policy("float32")
    return population * generations / statistics.median(times.seconds[1:])


def megabytes() -> str:
    found = jax.devices()[0].memory_stats() or {}
    return f"{found['peak_bytes_in_use'] / 2**20:,.0f}" if "peak_bytes_in_use" in found else "-"


def throughput(limit: float) -> dict[tuple, float]:
    """Prints and returns the share of the peak of each setting."""
    shares = {}
    print(f"\npeak of float32 matrix products: {limit / 1e12:.2f} TFLOP/s; memory: MB so far\n")
    columns = ("network", "batch", "population", "noise", "policy")
    print("".join(f"{name:>16}" for name in (*columns, "candidates/s", "of peak", "memory")))
    for name, widths in NETWORKS.items():
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        for batch in BATCHES:
            for population in POPULATIONS:
                for noise in NOISES:
                    for policy in POLICIES:
                        setting = (name, batch, population, noise, policy)
                        rate = candidates_a_second(widths, *setting[1:])
                        shares[setting] = 2 * weights * batch * rate / limit
                        cells = (*setting, f"{rate:,.0f}", f"{shares[setting]:.1%}", megabytes())
                        print("".join(f"{cell!s:>16}" for cell in cells), flush=True)
    return shares


def step_seconds(layers: list, loss, steps: int, batch: int = 1024, width: int = 256) -> float:
    """The median of the steps of `fit` of a network, after compilation."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile("adam", loss, jit_compile=True)
    x = np.random.default_rng(0).normal(size=(steps * batch, width)).astype("float32")
    times = StepTimes()
    model.fit(x, x[:, :1], batch_size=batch, callbacks=[times], shuffle=False, verbose=0)
    return statistics.median(times.seconds[1:])


def by_hand(y_true, y_pred):
    """The negative log-likelihood of a normal distribution, as `IndependentNormal` has it."""
    location, raw_scale = keras.ops.split(y_pred, 2, axis=-1)
    scale = keras.ops.maximum(keras.ops.softplus(raw_scale), 1e-5)
    z = (y_true - location) / scale
    return 0.5 * keras.ops.square(z) + keras.ops.log(scale) + 0.5 * np.log(2 * np.pi)


def distributions() -> dict[str, float]:
    """Prints and returns the ratios of steps, and effective samples of NUTS a second."""
    from nuts import run_ours

    ours = keras_extras.layers
    steps = 50 if ACCELERATOR else 10

    def network(dense, end=()):
        return [dense(256, activation="relu"), dense(256, activation="relu"), dense(2), *end]

    plain = keras.layers.Dense
    nll = keras_extras.losses.NegativeLogLikelihood()
    hand = step_seconds(network(plain), by_hand, steps)
    print(f"\na step with a loss by hand: {hand * 1e3:.2f} ms; over it:", flush=True)
    results = {}
    for dense in (plain, ours.DenseReparameterization, ours.DenseFlipout):
        kind = dense if dense is plain else functools.partial(dense, kl_weight="auto")
        seconds = step_seconds(network(kind, [ours.IndependentNormal(1)]), nll, steps)
        results[dense.__name__] = seconds / hand
        print(f"  {dense.__name__} and a head: {seconds / hand:.2f}", flush=True)
    chains, burnin, draws = (64, 500, 500) if ACCELERATOR else (4, 50, 50)
    results["NUTS"] = run_ours(chains, burnin, draws)["effective samples a second"]
    print(f"NUTS, {chains} chains: {results['NUTS']:,.0f} effective samples a second", flush=True)
    return results


class Target(keras.callbacks.Callback):
    """Stops at an error, which it evaluates off the clock."""

    def __init__(self, x: np.ndarray, error: float):
        super().__init__()
        self.x, self.error, self.seconds = x, error, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.perf_counter() - self.start
        self.found = self.model.evaluate(self.x, self.x, batch_size=6000, verbose=0)
        self.model.stop_training = self.found <= self.error


def target(data: str, epochs: int) -> tuple[float, float]:
    """Prints and returns the seconds and the error over that of PCA."""
    features = keras_extras.datasets.higgs.load_events(data).features
    imputer = keras_extras.layers.MissingValueImputer()
    imputer.adapt(features)
    x = keras.ops.convert_to_numpy(imputer(features))
    x = ((x - x.mean(0)) / x.std(0))[: len(x) // 500 * 500]
    floor = float(np.sum(np.linalg.svd(x, compute_uv=False)[10:] ** 2) / x.size)
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomUniform(-0.1, 0.1)
    model = keras.Sequential(
        [
            keras.Input((30,)),
            keras_extras.layers.EinsteinLatent(10, "field_equation", kernel_initializer=start),
            keras.layers.Dense(30, use_bias=False, kernel_initializer=start),
            keras_extras.layers.ScaleShift(),
        ]
    )
    steps = 36
    model.compile(MonteCarloOptimizer(seed=0), "mse", jit_compile=True, steps_per_execution=steps)
    fit = {"batch_size": 500, "verbose": 0}
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.copy(variable) for variable in variables]
    model.fit(x, x, **fit)  # compiles
    for variable, value in zip(variables, before):
        variable.assign(value)
    callback = Target(x, TARGET * floor)
    model.fit(x, x, epochs=epochs, callbacks=[callback], **fit)
    ratio = callback.found / floor
    print(f"\nautoencoder at {ratio:.4f} times the error of PCA after {callback.seconds:.2f} s")
    return callback.seconds, ratio


def main(
    parts: str = "throughput,distributions,target", data: str = "simulated", epochs: int = 300
) -> dict:
    """Prints what was measured, on what and when."""
    device = jax.devices()[0]
    print(f"{device.device_kind}, JAX {jax.__version__}, Keras {keras.__version__}, ", end="")
    print(datetime.date.today())
    if not ACCELERATOR:
        print("No accelerator was found: these are small sizes on the CPU.")
    results = {}
    if "throughput" in parts.split(","):
        results["throughput"] = throughput(peak())
    if "distributions" in parts.split(","):
        results["distributions"] = distributions()
    if "target" in parts.split(","):
        results["target"] = target(data, epochs)
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument(
        "--parts", default="throughput,distributions,target", help="which, with commas"
    )
    parser.add_argument("--data", default="simulated", help="simulated, atlas or a CSV file")
    parser.add_argument("--epochs", type=int, default=300, help="most epochs for the target")
    main(**vars(parser.parse_args()))
