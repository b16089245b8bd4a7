"""Integral transforms, and bands of chance, for the figures of calibration."""

from statistics import NormalDist
from typing import Any

import numpy as np
from keras import ops

from keras_extras._core.cdf_around import cdf_around
from keras_extras._core.checks import check_integer, check_share
from keras_extras._core.data import check_numbers
from keras_extras._core.distribution_kinds import takes_whole_numbers
from keras_extras._core.targets import match_targets
from keras_extras.visualization.arguments import column, flat, rows_of

# Of the docstrings of figures of integral transforms.
TEXTS = {
    "targets": """
        y_true: Array of targets of shape `(n,)` or `(n, 1)`.
        distribution: A `tfd.Distribution`, such as `model(x)`, of batch shape `(n,)` or `(n, 1)`,
            or of event shape `(1,)`, with the method `cdf`.
        """,
    "seed": """
        seed: Integer seed of the randomization for discrete distributions. Defaults to `0`.
        """,
    "raises": """
        Raises:
            TypeError: If `distribution` is not a distribution, or a number is not an integer.
            ValueError: If shapes do not fit or targets are NaN or infinite.
        """,
}


def integral_transforms(y_true: Any, distribution: Any, seed: int, owner: str) -> np.ndarray:
    """Returns `F(y)` of each target, uniform on [0, 1] if the distributions are those of targets.

    Where a single value has a probability, the transform is spread out evenly over the step of
    `F` at `y`, as `F(y-) + u (F(y) - F(y-))` with `u` uniform.
    """
    seed = check_integer("seed", seed, minimum=0)
    distribution, _ = rows_of(distribution, owner)
    targets = column("y_true", y_true)
    # With a last axis of length 1, one target cannot be taken for a row of many.
    matched = match_targets(targets[:, None], distribution, owner)
    if takes_whole_numbers(distribution):
        _check_whole(targets)
    matched = ops.cast(matched, distribution.dtype)
    before, at = map(flat, cdf_around(distribution, matched))
    spread = np.random.default_rng(seed).uniform(size=len(targets))
    transforms = before + spread * (at - before)
    check_numbers("F(y_true)", transforms)
    return np.clip(transforms, 0.0, 1.0)


def binomial_band(share: Any, count: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the share among `count` independent trials lies, at each `share` expected.

    It is the normal approximation of the binomial distribution.
    """
    confidence = check_share("confidence", confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = np.asarray(share)
    half_width = z * np.sqrt(share * (1 - share) / count)
    return np.clip(share - half_width, 0.0, 1.0), np.clip(share + half_width, 0.0, 1.0)


def _check_whole(targets):
    fractions = targets[targets.astype("float32") % 1 != 0]
    if fractions.size:
        raise ValueError(
            "`y_true` must hold whole numbers, because the distribution is discrete. "
            f"Received: a value of {fractions[0]:g}"
        )
