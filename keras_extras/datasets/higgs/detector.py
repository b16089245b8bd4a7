"""A detector in a few lines: resolution, missing momentum, and which events it keeps."""

import numpy as np

from keras_extras.datasets.higgs.features import UNDEFINED
from keras_extras.datasets.higgs.kinematics import angular_distance, transverse_vector
from keras_extras.datasets.higgs.processes import Collision

# Relative resolution of the transverse momentum.
_TAU_RESOLUTION, _LEPTON_RESOLUTION, _JET_RESOLUTION = 0.12, 0.02, 0.2
# Jets count for the missing momentum from the first threshold on, as jets from the second.
_SEEN_JET_PT, _COUNTED_JET_PT = 20.0, 30.0
_LARGEST_JET_ETA = 4.5
# What the detector sees of the soft particles.
_SOFT_MOMENTUM = 2.5
_LOWEST_TAU_PT, _LOWEST_LEPTON_PT = 20.0, 26.0
_LARGEST_ETA = 2.5
_SMALLEST_DISTANCE = 0.4


def measure(rng: np.random.Generator, collision: Collision) -> np.ndarray:
    """Measurements of the detector: `(n, 17)` columns in the order of `PRIMITIVE_NAMES`."""
    tau = _smear(rng, collision.tau, _TAU_RESOLUTION)
    lepton = _smear(rng, collision.lepton, _LEPTON_RESOLUTION)
    jets = _smear(rng, collision.jets, _JET_RESOLUTION)
    jets[0] *= (jets[0] > _SEEN_JET_PT) & (np.abs(jets[1]) < _LARGEST_JET_ETA)

    seen = rng.normal(0.0, _SOFT_MOMENTUM, tau[:2].shape)
    for pt, _, phi in (tau, lepton, *jets.swapaxes(0, 1)):
        seen += transverse_vector(pt, phi)
    met, met_phi = np.hypot(*-seen), np.arctan2(*-seen[::-1])
    sumet = tau[0] + lepton[0] + jets[0].sum(axis=0) + rng.gamma(1.6, 30.0, met.shape)

    jets = np.take_along_axis(jets, np.argsort(-jets[:1], axis=1), axis=1)
    counted = jets[0] > _COUNTED_JET_PT
    all_jets_pt = np.sum(jets[0], axis=0, where=counted)
    leading, subleading = np.where(counted, jets, UNDEFINED)[:, :2].swapaxes(0, 1)
    num_jets = np.minimum(counted.sum(axis=0), 3)
    return np.stack(
        [*tau, *lepton, met, met_phi, sumet, num_jets, *leading, *subleading, all_jets_pt], axis=1
    )


def accept(primitives: np.ndarray) -> np.ndarray:
    """Keeps the events that pass the thresholds of the challenge's selection."""
    tau_pt, tau_eta, tau_phi, lep_pt, lep_eta, lep_phi = primitives.T[:6]
    return primitives[
        (tau_pt > _LOWEST_TAU_PT)
        & (lep_pt > _LOWEST_LEPTON_PT)
        & (np.abs(tau_eta) < _LARGEST_ETA)
        & (np.abs(lep_eta) < _LARGEST_ETA)
        & (angular_distance(tau_eta, tau_phi, lep_eta, lep_phi) > _SMALLEST_DISTANCE)
    ]


def _smear(rng, particles, resolution):
    pt, eta, phi = particles
    return np.stack([pt * rng.lognormal(0.0, resolution, pt.shape), eta, phi])
