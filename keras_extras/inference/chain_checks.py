"""Checks before and after Markov chains, with the errors and warnings of `sample_posterior`."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.data import check_numbers

# What only some kernels use, and its default.
_OF_KERNELS = {
    "target_accept_prob": (("nuts", "hmc"), 0.8),
    "max_tree_depth": (("nuts", "hmc"), 10),
    "target_energy_variance": (("mclmc",), 5e-4),
}


def check_kernel(settings: Mapping[str, Any]) -> None:
    """Raises if an argument is given that the kernel has no use for."""
    for name, (kernels, default) in _OF_KERNELS.items():
        if settings["kernel"] not in kernels and settings[name] != default:
            raise ValueError(
                f"`{name}` is an argument of the kernels {kernels} only, and must be left at "
                f"{default}. Received: kernel={settings['kernel']!r}, {name}={settings[name]!r}"
            )


def check_leapfrog_steps(steps: Any, kernel: str, num_chains: int) -> int | str:
    """Returns the number of leapfrog steps, or `"auto"` where their number can be learned."""
    if not isinstance(steps, str):
        return check_integer("num_leapfrog_steps", steps)
    if steps != "auto" or kernel != "hmc" or num_chains < 2:
        raise ValueError(
            '`num_leapfrog_steps` must be an integer, or "auto" with kernel="hmc" and at least two '
            f"chains. Received: num_leapfrog_steps={steps!r}, kernel={kernel!r}, "
            f"num_chains={num_chains}"
        )
    return steps


def check_finite(log_probs: np.ndarray) -> None:
    """Raises if chains would start where the density is not finite."""
    if not np.isfinite(log_probs).all():
        raise ValueError(
            "The density of the posterior must be finite where chains start; check `x`, `y` and "
            "the weights of the model for NaN, and targets for values that the likelihood does "
            f"not allow. Received: log densities {log_probs}"
        )


def weights_of_chains(sample_weight: Any, num_chains: int, num_rows: int) -> tuple:
    """Returns the weights of rows for each chain as the only tensor of a tuple, or no tensor.

    Raises:
        ValueError: If weights are not finite, negative, of another shape, or all zero for a chain.
    """
    if sample_weight is None:
        return ()
    check_numbers("sample_weight", sample_weight)
    weights = np.asarray(sample_weight, "float32")
    if weights.shape not in ((num_rows,), (num_chains, num_rows)):
        raise ValueError(
            f"`sample_weight` must have the shape {(num_rows,)}, or {(num_chains, num_rows)} for "
            f"weights of each chain. Received: sample_weight of shape {weights.shape}"
        )
    if (weights < 0.0).any() or not weights.any(axis=-1).all():
        raise ValueError(
            "`sample_weight` must not be negative, nor zero for all rows of a chain. "
            f"Received: values from {weights.min()} to {weights.max()}"
        )
    return (ops.convert_to_tensor(np.broadcast_to(weights, (num_chains, num_rows))),)


def warn_of_divergences(count: int, total: int, kernel: str) -> None:
    """Warns the caller of `sample_posterior` if transitions diverged."""
    if count:
        setting = "`target_accept_prob` (0.95, 0.99)"
        advice = f"Raise {setting}" if kernel != "mclmc" else "Lower `target_energy_variance`"
        warnings.warn(
            f"{count} of {total} transitions diverged, so that parts of the posterior may be "
            f"missing. {advice}, give more `num_burnin_steps`, or a narrower `prior`.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_bias(variance: float | None, target: float) -> None:
    """Warns the caller of `sample_posterior` if errors of the energy are larger than wanted."""
    if variance is not None and not variance <= 2.0 * target:
        warnings.warn(
            f"The energy varies by {variance:.2g} per weight, more than twice "
            f"`target_energy_variance` ({target:.2g}), so that draws are more biased than that "
            "allows. Give more `num_burnin_steps`, or a smaller `step_size`.",
            UserWarning,
            stacklevel=3,
        )
