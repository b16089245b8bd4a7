"""sample_posterior: draws of a model's weights by Markov chains that follow gradients."""

import math
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_share,
)
from keras_extras._core.data import check_numbers
from keras_extras._core.fingerprint import fingerprint
from keras_extras._core.flat_vectors import num_entries
from keras_extras._core.locks import locked_folder
from keras_extras._core.model_function import is_seed
from keras_extras._core.probability import require_probability
from keras_extras.inference.chain_backup import ChainBackup
from keras_extras.inference.chain_checks import (
    check_finite,
    check_kernel,
    check_leapfrog_steps,
    warn_of_bias,
    warn_of_divergences,
    weights_of_chains,
)
from keras_extras.inference.chain_target import ChainTarget
from keras_extras.inference.observations import observations
from keras_extras.inference.posterior import Posterior
from keras_extras.inference.predict_distribution import numpy_generator

# Longer steps leave any posterior that weights in single precision can have.
_LARGEST_STEP = 1e6


def sample_posterior(
    model: keras.Model,
    x: Any,
    y: Any,
    prior: Any = "standard_normal",
    likelihood: Callable | None = None,
    kernel: str = "nuts",
    num_chains: int = 4,
    num_results: int = 1000,
    num_burnin_steps: int = 1000,
    initial: str | Sequence[np.ndarray] | Posterior = "weights",
    step_size: float | None = None,
    target_accept_prob: float = 0.8,
    max_tree_depth: int = 10,
    num_leapfrog_steps: int | str = 10,
    jit_compile: bool = True,
    seed: int | None = None,
    verbose: int = 1,
    backup_dir: str | os.PathLike | None = None,
    target_energy_variance: float = 5e-4,
    sample_weight: Any = None,
) -> Posterior:
    """Draws the trainable weights of a built model from their posterior, given data.

    ```
    p(w | x, y) ~ p(w) prod over rows of p(y | x, w)
    ```

    by the No-U-Turn sampler or Hamiltonian Monte Carlo of `tfp.mcmc`, or by microcanonical
    Langevin Monte Carlo. All chains advance together, on all rows at once. In the warm-up the step
    size is adapted, and the scale of each weight to its standard deviation. Losses and regularizers
    of the model play no part: the prior takes their place. The model's own weights stay as they
    are.

    With `kernel="mclmc"` momenta have a constant length, and lose their direction within a length
    of `sqrt(number of weights)` in units of the scales. There is no accept step, so that steps can
    be long, and draws are biased: with the default `target_energy_variance`, standard deviations
    of a normal posterior are one to three percent too small. `posterior.energy_variance` is the
    variance that was found.

    With `kernel="hmc"` and `num_leapfrog_steps="auto"` the length of trajectories is learned, too,
    by gradient ascent through the leapfrog steps: of the squared jumps of the weights, and of
    their squared distance from the mean (the ChEES criterion), in a unit of length.

    Called again for the same model, prior, likelihood and settings with data of the same shapes,
    it compiles nothing.

    References:
        Hoffman and Gelman (2014), "The No-U-Turn sampler",
        [arXiv:1111.4246](https://arxiv.org/abs/1111.4246); Neal (1996), "Bayesian learning for
        neural networks"; Robnik et al. (2022), "Microcanonical Hamiltonian Monte Carlo",
        [arXiv:2212.08549](https://arxiv.org/abs/2212.08549); Robnik and Seljak (2024),
        [arXiv:2412.08876](https://arxiv.org/abs/2412.08876), on its bias; Hoffman, Radul and
        Sountsov (2021), "An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
        Monte Carlo", [AISTATS](https://proceedings.mlr.press/v130/hoffman21a.html).

    Args:
        model: Keras model with one output, built or called before, in which nothing is random in
            prediction.
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.
        y: Targets, an array with `n` rows.
        prior: The prior of all weights: `"standard_normal"`; `"scaled_normal"`, of standard
            deviation `1 / sqrt(fan_in)` for kernels and 1 for others; a `tfd.Distribution` of a
            single number, which all entries have; or a dict from patterns of `variable.path`,
            matched as by `fnmatch` with the path or its end, to any of these. Defaults to
            `"standard_normal"`.
        likelihood: Function from the outputs of the model to a `tfd.Distribution` of targets;
            `None` for a model whose last layer is one of distributions. Defaults to `None`.
        kernel: `"nuts"`, `"hmc"` or `"mclmc"`, microcanonical Langevin Monte Carlo, which needs a
            model of at least two weights. Defaults to `"nuts"`.
        num_chains: Integer, the number of chains. Defaults to `4`.
        num_results: Integer, draws to keep of each chain. Defaults to `1000`.
        num_burnin_steps: Integer, transitions of the warm-up, which are not kept. Defaults to
            `1000`.
        initial: Where chains start: `"weights"`, near those that the model has; `"prior"`, each at
            a draw of the prior; or arrays of shape `(num_chains, *shape)`, one for each trainable
            weight, such as those of an ensemble. Defaults to `"weights"`.
        step_size: Float, the step size of the first transitions; `None` for a guess. Defaults to
            `None`.
        target_accept_prob: Float between 0 and 1, the acceptance that the step size is adapted to.
            Closer to 1 means smaller steps and fewer divergences. It must be left as it is with
            `"mclmc"`. Defaults to `0.8`.
        max_tree_depth: Integer, NUTS takes at most `2**max_tree_depth - 1` leapfrog steps in a
            transition. It must be left as it is with `"mclmc"`. Defaults to `10`.
        num_leapfrog_steps: Integer, leapfrog steps in a transition of HMC, and steps of
            `"mclmc"`, of two gradients each, between draws. `"auto"`, for HMC of at least two
            chains, learns the length of trajectories in the warm-up, by the gradient of squared
            jumps in a unit of length. Defaults to `10`.
        jit_compile: Boolean, whether to compile by XLA. Models that XLA does not allow are compiled
            without it. Defaults to `True`.
        seed: Integer seed; `None` follows `keras.utils.set_random_seed`. Defaults to `None`.
        verbose: Integer, 1 for a progress bar, 0 for none. Defaults to `1`.
        backup_dir: Path of a folder in which draws are kept as they come. After a crash, the same
            call with the same folder goes on where it was, and ends with the draws that it would
            have had; with more `num_results`, it draws more. A call with other data, another
            model, prior, seed or setting is refused. The folder stays: delete it once the draws
            are saved. Defaults to `None`.
        target_energy_variance: Float, the variance of the energy's error in a step, per weight,
            that the step size of `"mclmc"` is adapted to. Less means a smaller bias and smaller
            steps, by its sixth root. It must be left as it is with other kernels. Defaults to
            `5e-4`.
        sample_weight: Array of shape `(n,)`, how often each row counts: a factor of the logarithm
            of its likelihood. Of shape `(num_chains, n)` each chain has its own, for example with
            zeros for rows held out of it. Defaults to `None`, once.

    Returns:
        A `keras_extras.inference.Posterior`.

    Raises:
        ValueError: If the model has no likelihood, its output is random, targets do not fit, the
            density is not finite where a chain starts, or `backup_dir` holds draws of something
            else.
        OSError: If `backup_dir` cannot be written to.
        RuntimeError: If another process uses `backup_dir`.

    Warns:
        UserWarning: If transitions diverged, with their number and what to try, or if the energy
            varies by more than twice `target_energy_variance`.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference, layers

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    ])
    x = np.linspace(-1.0, 1.0, 20)[:, None]
    y = 2.0 * x + np.random.default_rng(0).normal(size=x.shape)
    posterior = inference.sample_posterior(
        model, x, y, num_chains=2, num_results=50, num_burnin_steps=100, verbose=0
    )
    posterior.predict_distribution(x).stddev()  # of each row
    ```
    """
    require_probability("sample_posterior")
    check_choice("kernel", kernel, ("nuts", "hmc", "mclmc"))
    scale = trajectory_length = None
    if isinstance(initial, Posterior):
        if initial.scales is not None:
            scale = np.concatenate([np.ravel(part) for part in initial.scales]).astype("float32")
            step_size = initial.step_size if step_size is None else step_size
        lengths_of_draws = initial.sample_stats.get("trajectory_length")
        if lengths_of_draws is not None and num_leapfrog_steps == "auto":
            trajectory_length = float(lengths_of_draws[0, -1])
        initial = [values[:, -1] for values in initial.samples]
    if isinstance(initial, str):
        check_choice("initial", initial, ("weights", "prior"))
    else:
        check_numbers("initial", list(initial))
    check_choice("verbose", verbose, (0, 1, 2))
    num_chains = check_integer("num_chains", num_chains)
    num_results = check_integer("num_results", num_results)
    num_burnin_steps = check_integer("num_burnin_steps", num_burnin_steps, minimum=0)
    settings: dict[str, Any] = {
        "kernel": kernel,
        "target_accept_prob": check_share("target_accept_prob", target_accept_prob),
        "max_tree_depth": check_integer("max_tree_depth", max_tree_depth),
        "num_leapfrog_steps": check_leapfrog_steps(num_leapfrog_steps, kernel, num_chains),
        "target_energy_variance": check_number(
            "target_energy_variance", target_energy_variance, above=0.0
        ),
        "jit_compile": check_flag("jit_compile", jit_compile),
    }
    check_kernel(settings)
    if step_size is not None:
        step_size = check_number("step_size", step_size, above=0.0, at_most=_LARGEST_STEP)
    generator = numpy_generator(seed)
    target = _target_of(model, x, prior, likelihood, settings)
    function = target.function
    function.check_not_random(x)
    if kernel == "mclmc" and num_entries(function.variables) < 2:
        raise ValueError(
            "`kernel='mclmc'` needs a model of at least two weights, as momenta are directions. "
            "Received: a model of one weight; use `kernel='nuts'`"
        )
    data = observations(function, x, y)
    start = ops.convert_to_numpy(target.start(initial, num_chains, generator))
    of_chains = weights_of_chains(sample_weight, num_chains, len(data[1]))

    def log_probs_fn(vectors):
        elements = zip(map(ops.convert_to_tensor, vectors), *of_chains)
        return np.array([target.log_prob(v, *data, *own) for v, *own in elements])

    check_finite(log_probs_fn(start))
    backup = None
    if backup_dir is not None:
        lengths = {"num_burnin_steps": num_burnin_steps, "step_size": step_size}
        shape = {"num_chains": num_chains, "sizes": [math.prod(shape) for shape in target.shapes]}
        contents = {
            "x": fingerprint(data[0]),
            "y": fingerprint(data[1]),
            "non-trainable weights": fingerprint(_frozen(model)),
            "initial": initial if isinstance(initial, str) else fingerprint(list(initial)),
            "seed": seed,
        }
        lengths |= {} if scale is None else {"scale": scale.tolist()}
        lengths |= {} if trajectory_length is None else {"trajectory_length": trajectory_length}
        contents |= {"sample_weight": fingerprint(list(of_chains))} if of_chains else {}
        backup = ChainBackup(backup_dir, {**settings, **lengths, **shape, **contents})
    with locked_folder(backup_dir, "backup_dir"):
        if backup is not None:
            start = backup.start(start, log_probs_fn, generator)
            check_finite(log_probs_fn(start))
        bar = keras.utils.Progbar(num_burnin_steps + num_results, verbose=verbose)
        draws = target.chains.run(
            start,
            num_results,
            num_burnin_steps,
            generator,
            step_size,
            data,
            on_progress=bar.update,
            backup=backup,
            scale=scale,
            data_of_chains=of_chains,
            trajectory_length=trajectory_length,
        )
    samples = target.split(np.asarray(draws.values))
    scales = target.split(np.asarray(draws.scale))
    posterior = Posterior(model, samples, draws.stats, likelihood, draws.step_size, scales)
    warn_of_divergences(int(draws.stats["diverging"].sum()), num_chains * num_results, kernel)
    warn_of_bias(posterior.energy_variance, settings["target_energy_variance"])
    return posterior


def _frozen(model):
    """The variables that are not sampled, except seeds, which nothing uses."""
    return [v for v in model.non_trainable_variables if not is_seed(v)]


# The latest target of each model, which is kept as long as the model.
_targets: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _target_of(model, x, prior, likelihood, settings):
    parts = (prior, likelihood, settings, [id(v) for v in model.trainable_variables])
    known = _targets.get(model)
    if known is None or not all(a is b or a == b for a, b in zip(known[0], parts)):
        known = (parts, ChainTarget(model, x, prior, likelihood, settings))
        _targets[model] = known
    return known[1]
