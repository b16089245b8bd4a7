"""HypergradientDiagnosis: whether the derivative through a training run is reliable."""

import bisect
import warnings
from typing import NamedTuple

import numpy as np

from keras_extras._core.user_frames import user_stacklevel

# The maximum ratio of the norm of an adjoint to the median of the later ones.
_LARGEST_GROWTH = 1e3
# The maximum number of steps at which the growth is computed.
_MOST_PLACES = 2000


class HypergradientDiagnosis(NamedTuple):
    """Result of `UnrolledTraining.diagnose`.

    With a_t the derivative of the validation loss with respect to the weights before step t, the
    way back multiplies by the Jacobian of each step. Where its spectral radius is above 1, a_t
    grows exponentially, and so do the effects of rounding and of the smallest changes: training
    is chaotic, its hypergradient is right for steps far too small to be of use (Metz et al.,
    2019, "Understanding and correcting pathologies in the training of learned optimizers",
    [arXiv:1810.10180](https://arxiv.org/abs/1810.10180)).

    Args:
        adjoint_norms: Array of one number for each step, the norm of a_t.
        spectral_radius: Float, by which factor the norm grows in a step back, fitted over all.
        growth: Float, the largest ratio of a norm to the median of those after it.
        truncate: Integer, how many steps back the growth stays below 1,000, for the argument
            `truncate` of `UnrolledTraining`; `None` if it does for all.
    """

    adjoint_norms: np.ndarray
    spectral_radius: float
    growth: float
    truncate: int | None

    @property
    def is_trustworthy(self) -> bool:
        """Whether norms stay within 1,000 times those after them."""
        return self.truncate is None


def diagnosis_of(adjoint_norms: np.ndarray) -> HypergradientDiagnosis:
    """Returns the diagnosis of the norms of the steps that the way back had.

    Args:
        adjoint_norms: Array of one number for each step, in the order of training.
    """
    steps = len(adjoint_norms)
    back = np.asarray(adjoint_norms, "float64")[::-1]
    places = np.unique(np.linspace(0, steps - 1, min(steps, _MOST_PLACES)).round().astype(int))
    looked_at = np.where(np.isfinite(back), back, np.inf)[places]
    seen: list[float] = []
    ratios = []
    for norm in looked_at:
        bisect.insort(seen, norm)
        median = seen[len(seen) // 2] if np.isfinite(seen[len(seen) // 2]) else seen[0]
        ratios.append(norm / median if median > 0.0 else 1.0)
    ratios = np.nan_to_num(ratios, nan=np.inf, posinf=np.inf)
    beyond = np.flatnonzero(ratios > _LARGEST_GROWTH)
    usable = np.isfinite(looked_at) & (looked_at > 0.0)
    radius = np.nan
    if usable.sum() > 1:
        radius = np.exp(np.polyfit(places[usable], np.log(looked_at[usable]), 1)[0])
    return HypergradientDiagnosis(
        adjoint_norms=np.asarray(adjoint_norms),
        spectral_radius=float(radius),
        growth=float(ratios.max()),
        truncate=max(1, int(places[beyond[0]])) if len(beyond) else None,
    )


def warn_of_growth(diagnosis: HypergradientDiagnosis) -> None:
    """Warns the user if a hypergradient is not to be trusted."""
    if not diagnosis.is_trustworthy:
        warnings.warn(
            "The hypergradient is not to be trusted: on the way back through training its norm "
            f"grows {diagnosis.growth:.3g} times, by {diagnosis.spectral_radius:.4g} in a step, so "
            "that training is chaotic. Lower the learning rates, take fewer steps, or truncate "
            f"the way back: UnrolledTraining(..., truncate={diagnosis.truncate}).",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
