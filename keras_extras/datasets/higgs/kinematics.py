"""Relativistic kinematics: four-vectors (energy, px, py, pz on the first axis) and decays.

Directions are given as pseudorapidity eta = arcsinh(pz / pt) and azimuth phi; momenta, energies
and masses are in GeV.
"""

import numpy as np


def four_vector(mass, px, py, rapidity) -> np.ndarray:
    """A particle's four-vector from its mass, transverse momentum and rapidity."""
    transverse_mass = np.sqrt(mass**2 + px**2 + py**2)
    energy, pz = transverse_mass * np.cosh(rapidity), transverse_mass * np.sinh(rapidity)
    return np.stack([energy, px, py, pz])


def pt_eta_phi(particle: np.ndarray) -> np.ndarray:
    """Transverse momentum, pseudorapidity and azimuth, stacked on the first axis."""
    _, px, py, pz = particle
    pt = np.hypot(px, py)
    return np.stack([pt, np.arcsinh(pz / pt), np.arctan2(py, px)])


def transverse_vector(pt, phi) -> np.ndarray:
    """The components px and py, stacked on the first axis."""
    return np.stack([pt * np.cos(phi), pt * np.sin(phi)])


def visible_mass(pt1, eta1, phi1, pt2, eta2, phi2) -> np.ndarray:
    """Invariant mass of two massless particles."""
    return np.sqrt(2 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(phi1 - phi2)))


def angular_distance(eta1, phi1, eta2, phi2) -> np.ndarray:
    """Distance R of two directions in the plane of pseudorapidity and azimuth."""
    phi_difference = (phi1 - phi2 + np.pi) % (2 * np.pi) - np.pi
    return np.hypot(eta1 - eta2, phi_difference)


def breit_wigner(rng: np.random.Generator, size: int, mass: float, width: float) -> np.ndarray:
    """Masses of an unstable particle, cut off ten widths from the peak."""
    limit = np.arctan(20.0)
    return mass + width / 2 * np.tan(rng.uniform(-limit, limit, size))


def two_body_decay(
    rng: np.random.Generator, parent: np.ndarray, first_mass: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Decays `parent` isotropically in its rest frame; the second product is massless.

    Args:
        rng: Source of the directions.
        parent: Four-vectors of shape `(4, n)`.
        first_mass: Mass of the first product.

    Returns:
        The four-vectors of both products; their sum is `parent`.
    """
    parent_mass = np.sqrt(parent[0] ** 2 - np.sum(parent[1:] ** 2, axis=0))
    momentum = (parent_mass**2 - first_mass**2) / (2 * parent_mass)
    cos_theta = rng.uniform(-1.0, 1.0, momentum.shape)
    phi = rng.uniform(-np.pi, np.pi, momentum.shape)
    px, py = transverse_vector(momentum * np.sqrt(1 - cos_theta**2), phi)
    at_rest = np.stack([np.hypot(momentum, first_mass), px, py, momentum * cos_theta])
    first = _boost(at_rest, parent, parent_mass)
    return first, parent - first


def _boost(particle, frame, frame_mass):
    """Moves `particle` from the rest frame of `frame` to the one in which `frame` is given."""
    energy = np.sum(particle * frame, axis=0) / frame_mass
    momentum = particle[1:] + frame[1:] * (particle[0] + energy) / (frame[0] + frame_mass)
    return np.concatenate([energy[None], momentum])
