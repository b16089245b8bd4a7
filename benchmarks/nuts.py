"""Effective samples a second of NUTS over a network's weights, beside NumPyro.

Both draw the weights of the same regression with 20 hidden units (442 rows, 10 inputs, tanh, known
noise, standard normal priors) with as many chains, warm-up steps and draws, on the same CPU. What
is counted are the effective samples of the function's values at 20 places, as weights of a network
can trade places. Times are of a second run, after everything is compiled, warm-up included.

    python benchmarks/nuts.py
    KERAS_BACKEND=jax python benchmarks/nuts.py

NumPyro is optional (`pip install "keras-extras[peers]"`).
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import command_line, conditions, write_json

import keras_extras
from keras_extras import inference

ROWS, INPUTS, HIDDEN, NOISE = 442, 10, 20, 0.3


def make_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets, and the places where the function is looked at."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS + 20, INPUTS)).astype("float32")
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + NOISE * generator.normal(size=(len(x), 1))
    return x[:ROWS], y[:ROWS].astype("float32"), x[ROWS:]


def function_values(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The outputs of the network, of shape `(chains, draws, places)`, for draws of its weights."""
    kernel, bias, last_kernel, last_bias = weights
    hidden = np.tanh(x @ kernel + bias[..., None, :])
    return (hidden @ last_kernel + last_bias[..., None, :])[..., 0]


def effective_samples(values: np.ndarray) -> float:
    """The median over places of ArviZ's bulk effective sample size."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ArviZ, on its own next release
        import arviz

    dataset = arviz.ess(arviz.convert_to_dataset({"f": values}))
    return float(np.median(dataset["f"]))


def run_ours(chains: int, burnin: int, draws: int) -> dict[str, float]:
    x, y, places = make_data()
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(HIDDEN, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    tfd = keras_extras.tfp.distributions

    def likelihood(outputs):
        return tfd.Independent(tfd.Normal(outputs, NOISE), 1)

    seconds = []
    for seed in (1, 2):
        start = time.perf_counter()
        posterior = inference.sample_posterior(
            model,
            x,
            y,
            likelihood=likelihood,
            num_chains=chains,
            num_burnin_steps=burnin,
            num_results=draws,
            initial="prior",
            seed=seed,
            verbose=0,
        )
        seconds.append(time.perf_counter() - start)
    return _result(
        seconds,
        function_values(posterior.samples, places),
        float(posterior.sample_stats["n_steps"].mean()),
        float(posterior.sample_stats["acceptance_rate"].mean()),
    )


def run_numpyro(chains: int, burnin: int, draws: int) -> dict[str, float]:
    """The better of NumPyro's two ways: chains side by side, or on CPU devices of their own."""
    import numpyro

    numpyro.set_host_device_count(os.cpu_count())
    results = [_run_numpyro(method, chains, burnin, draws) for method in ("vectorized", "parallel")]
    return max(results, key=lambda result: result["effective samples a second"])


def _run_numpyro(method, chains, burnin, draws):
    import jax
    import numpyro
    from jax import numpy as jnp
    from numpyro import distributions as dist

    x, y, places = make_data()
    shapes = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)]

    def model():
        weights = [
            numpyro.sample(f"w{number}", dist.Normal(0.0, 1.0).expand(shape).to_event())
            for number, shape in enumerate(shapes)
        ]
        hidden = jnp.tanh(x @ weights[0] + weights[1])
        numpyro.sample("y", dist.Normal(hidden @ weights[2] + weights[3], NOISE), obs=y)

    kernel = numpyro.infer.NUTS(model, init_strategy=numpyro.infer.init_to_sample)
    chain = numpyro.infer.MCMC(
        kernel,
        num_warmup=burnin,
        num_samples=draws,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )
    seconds = []
    for seed in (1, 2):
        start = time.perf_counter()
        chain.run(jax.random.PRNGKey(seed), extra_fields=("num_steps", "accept_prob"))
        jax.block_until_ready(chain.get_samples())
        seconds.append(time.perf_counter() - start)
    samples = chain.get_samples(group_by_chain=True)
    weights = [np.asarray(samples[f"w{number}"]) for number in range(4)]
    fields = chain.get_extra_fields()
    return _result(
        seconds,
        function_values(weights, places),
        float(fields["num_steps"].mean()),
        float(fields["accept_prob"].mean()),
    )


def _result(seconds, values, steps, acceptance):
    effective = effective_samples(values)
    return {
        "first run, s": seconds[0],
        "second run, s": seconds[1],
        "effective samples": effective,
        "effective samples a second": effective / seconds[1],
        "leapfrog steps a draw": steps,
        "acceptance": acceptance,
    }


def main(
    chains: int = 4, burnin: int = 500, draws: int = 500, out: str | os.PathLike | None = None
) -> dict:
    """Runs both, prints a table and the ratio, and writes `nuts.json` to `out`.

    Args:
        chains: Integer, chains of each.
        burnin: Integer, warm-up steps of each chain.
        draws: Integer, draws of each chain.
        out: Folder for the JSON file; none is written without.

    Returns:
        Dict from `"keras-extras"` and `"NumPyro"` to measurements, and `"ratio"`.
    """
    results: dict = {"keras-extras": run_ours(chains, burnin, draws)}
    try:
        results["NumPyro"] = run_numpyro(chains, burnin, draws)
    except ImportError as error:
        print(f"NumPyro is left out: {error}")
    peers = ("numpyro", "jax") if "NumPyro" in results else ()
    machine, versions = conditions("tensorflow-probability", *peers)
    print(f"{machine}, {versions}; {chains} chains, {burnin} + {draws} transitions")
    for name, result in results.items():
        print(f"{name:14}" + "".join(f"  {key}: {value:.4g};" for key, value in result.items()))
    if "NumPyro" in results:
        key = "effective samples a second"
        results["ratio"] = results["keras-extras"][key] / results["NumPyro"][key]
        print(f"ratio of effective samples a second, ours to NumPyro's: {results['ratio']:.2f}")
    write_json(out, "nuts.json", {"machine": machine, "versions": versions, "results": results})
    return results


if __name__ == "__main__":
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=4, help="chains of each")
    parser.add_argument("--burnin", type=int, default=500, help="warm-up steps of each chain")
    parser.add_argument("--draws", type=int, default=500, help="draws of each chain")
    parser.add_argument("--out", default=None, help="folder for a JSON file")
    main(**vars(parser.parse_args()))
