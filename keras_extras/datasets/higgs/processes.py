"""The collisions that the simulation knows: two ways to make a Higgs boson and three backgrounds.

In every collision the transverse momenta balance: whatever is not in `Collision` (neutrinos, the
soft remains) carries the opposite of what is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_extras.datasets.higgs.kinematics import (
    breit_wigner,
    four_vector,
    pt_eta_phi,
    transverse_vector,
    two_body_decay,
)

_HIGGS = {"mass": 125.0, "width": 0.004}
_Z = {"mass": 91.19, "width": 2.495}
_W = {"mass": 80.38, "width": 2.085}
_TOP_MASS = 172.5

_SOFTEST_JET_PT = 20.0
_MOST_RADIATED_JETS = 5


class Collision(NamedTuple):
    """Visible particles at the detector; pt, eta and phi on the first axis."""

    tau: np.ndarray  # (3, n), the hadrons of a tau or a jet mistaken for them
    lepton: np.ndarray  # (3, n)
    jets: np.ndarray  # (3, jets, n); pt is 0 where there is no jet


class Process(NamedTuple):
    """A kind of collision and how much of the simulated sample it makes."""

    collide: Callable[[np.random.Generator, int], Collision]
    is_signal: bool
    row_share: float  # of the rows
    weight_share: float  # of the weight of its class


def gluon_fusion(rng: np.random.Generator, n: int) -> Collision:
    """A Higgs boson with radiated jets only."""
    jets = _radiated_jets(rng, n, mean_number=1.0, mean_pt=24.0)
    return _boson_to_tau_pair(rng, _HIGGS, jets, rapidity_spread=1.3)


def vector_boson_fusion(rng: np.random.Generator, n: int) -> Collision:
    """A Higgs boson between two jets, far apart in pseudorapidity."""
    gap = rng.normal(3.7, 1.9, n)
    eta = rng.normal(0.0, 0.8, n) + np.stack([gap, -gap]) / 2
    tagging_jets = np.stack([rng.gamma(1.5, 36.0, (2, n)), eta, _azimuth(rng, (2, n))])
    radiated = _radiated_jets(rng, n, mean_number=0.6, mean_pt=18.0)
    jets = np.concatenate([tagging_jets, radiated], axis=1)
    return _boson_to_tau_pair(rng, _HIGGS, jets, rapidity_spread=1.3)


def z_to_tau_tau(rng: np.random.Generator, n: int) -> Collision:
    """A Z boson with radiated jets."""
    jets = _radiated_jets(rng, n, mean_number=2.1, mean_pt=26.0)
    return _boson_to_tau_pair(rng, _Z, jets, rapidity_spread=1.7)


def w_with_jets(rng: np.random.Generator, n: int) -> Collision:
    """A W boson that decays to a lepton, and a jet that is mistaken for a tau."""
    rapidity = rng.normal(0.0, 1.8, n)
    fake_pt = _falling_pt(rng, n, mean_pt=11.0)
    fake_tau = np.stack([fake_pt, rng.normal(rapidity / 2, 1.4), _azimuth(rng, n)])
    jets = _radiated_jets(rng, n, mean_number=1.0, mean_pt=20.0)
    px, py = -_recoil(rng, jets) - transverse_vector(fake_tau[0], fake_tau[2])
    lepton, _ = two_body_decay(rng, four_vector(breit_wigner(rng, n, **_W), px, py, rapidity))
    return Collision(fake_tau, pt_eta_phi(lepton), jets)


def top_pair(rng: np.random.Generator, n: int) -> Collision:
    """Two top quarks: each a bottom jet and a W boson, one W to a lepton, one to a tau."""
    radiated = _radiated_jets(rng, n, mean_number=0.7, mean_pt=20.0)
    shared = -_recoil(rng, radiated) / 2
    apart = transverse_vector(rng.gamma(2.0, 45.0, n), _azimuth(rng, n))
    (px1, py1), (px2, py2) = shared + apart, shared - apart
    first_top = four_vector(_TOP_MASS, px1, py1, rng.normal(0.0, 1.0, n))
    second_top = four_vector(_TOP_MASS, px2, py2, rng.normal(0.0, 1.0, n))
    first_w, first_bottom = two_body_decay(rng, first_top, _W["mass"])
    second_w, second_bottom = two_body_decay(rng, second_top, _W["mass"])
    lepton, _ = two_body_decay(rng, first_w)
    tau, _ = two_body_decay(rng, second_w)
    bottom_jets = np.stack([pt_eta_phi(first_bottom), pt_eta_phi(second_bottom)], axis=1)
    return Collision(
        _visible_part(tau, _hadronic_share(rng, n)),
        pt_eta_phi(lepton),
        np.concatenate([bottom_jets, radiated], axis=1),
    )


# Shares as the challenge's events suggest, whose weights differ from process to process.
PROCESSES = (
    Process(gluon_fusion, is_signal=True, row_share=0.155, weight_share=0.9),
    Process(vector_boson_fusion, is_signal=True, row_share=0.185, weight_share=0.1),
    Process(z_to_tau_tau, is_signal=False, row_share=0.2, weight_share=0.11),
    Process(top_pair, is_signal=False, row_share=0.04, weight_share=0.02),
    Process(w_with_jets, is_signal=False, row_share=0.42, weight_share=0.87),
)


def _boson_to_tau_pair(rng, boson, jets, rapidity_spread):
    n = jets.shape[-1]
    px, py = -_recoil(rng, jets)
    rapidity = rng.normal(0.0, rapidity_spread, n)
    first, second = two_body_decay(
        rng, four_vector(breit_wigner(rng, n, **boson), px, py, rapidity)
    )
    return Collision(
        _visible_part(first, _hadronic_share(rng, n)),
        _visible_part(second, _leptonic_share(rng, n)),
        jets,
    )


def _radiated_jets(rng, n, mean_number, mean_pt):
    shape = (_MOST_RADIATED_JETS, n)
    exists = np.arange(_MOST_RADIATED_JETS)[:, None] < rng.poisson(mean_number, n)
    pt = np.where(exists, _falling_pt(rng, shape, mean_pt), 0.0)
    return np.stack([pt, rng.normal(0.0, 2.0, shape), _azimuth(rng, shape)])


def _recoil(rng, jets):
    """Transverse momentum of the jets and of all the soft particles around the hard collision.

    The soft part has the long tails of pile-up: Student's t with four degrees of freedom.
    """
    soft = 14.0 * rng.standard_t(4, (2, jets.shape[-1]))
    return transverse_vector(jets[0], jets[2]).sum(axis=1) + soft


def _falling_pt(rng, size, mean_pt):
    """A power law above the softest jet, `mean_pt` beyond it in the mean."""
    return _SOFTEST_JET_PT + 2 * mean_pt * rng.pareto(3.0, size)


def _azimuth(rng, size):
    return rng.uniform(-np.pi, np.pi, size)


def _visible_part(tau, share):
    """The decay product that carries `share` of a tau's momentum, along its direction."""
    pt, eta, phi = pt_eta_phi(tau)
    return np.stack([share * pt, eta, phi])


def _leptonic_share(rng, n):
    """Drawn from the spectrum of unpolarised tau decays, by inverting its distribution function."""
    share = np.linspace(0.0, 1.0, 201)
    return np.interp(rng.uniform(size=n), 5 / 3 * share - share**3 + share**4 / 3, share)


def _hadronic_share(rng, n):
    return rng.beta(2.5, 1.2, n)
