import numpy as np
import pytest

from keras_extras.datasets.higgs.kinematics import (
    angular_distance,
    breit_wigner,
    four_vector,
    pt_eta_phi,
    transverse_vector,
    two_body_decay,
    visible_mass,
)

N = 20_000


def mass(particle):
    return np.sqrt(np.maximum(particle[0] ** 2 - np.sum(particle[1:] ** 2, axis=0), 0.0))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def parents(rng):
    return four_vector(125.0, *rng.normal(0.0, 60.0, (2, N)), rng.normal(0.0, 1.5, N))


def test_four_vector_has_the_mass_and_momentum_asked_for(parents):
    np.testing.assert_allclose(mass(parents), 125.0, rtol=1e-9)
    pt, eta, phi = pt_eta_phi(parents)
    np.testing.assert_allclose(transverse_vector(pt, phi), parents[1:3], rtol=1e-9)
    np.testing.assert_allclose(pt * np.sinh(eta), parents[3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first_mass", [0.0, 80.38])
def test_decay_products_have_their_masses_and_sum_to_the_parent(rng, parents, first_mass):
    first, second = two_body_decay(rng, parents, first_mass)
    np.testing.assert_allclose(first + second, parents, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mass(first), first_mass, atol=1e-3)
    np.testing.assert_allclose(mass(second), 0.0, atol=1e-2)


def test_decay_at_rest_is_isotropic(rng):
    first, _ = two_body_decay(rng, four_vector(100.0, np.zeros(N), np.zeros(N), 0.0))
    np.testing.assert_allclose(first[0], 50.0, rtol=1e-12)
    # Each cosine is uniform on (-1, 1): mean 0, mean square 1/3 with deviation 0.3 / sqrt(N).
    cosines = first[1:] / 50.0
    np.testing.assert_allclose(cosines.mean(axis=1), 0.0, atol=5 * 0.58 / np.sqrt(N))
    np.testing.assert_allclose((cosines**2).mean(axis=1), 1 / 3, atol=5 * 0.3 / np.sqrt(N))


def test_visible_mass_of_the_decay_products_is_the_parent_s(rng, parents):
    first, second = two_body_decay(rng, parents)
    np.testing.assert_allclose(visible_mass(*pt_eta_phi(first), *pt_eta_phi(second)), 125.0)


def test_breit_wigner_has_its_peak_and_width(rng):
    masses = breit_wigner(rng, N, mass=91.19, width=2.495)
    assert np.abs(masses - 91.19).max() <= 10 * 2.495
    lower, median, upper = np.quantile(masses, [0.25, 0.5, 0.75])
    # Quartiles of a Cauchy distribution lie half a width from its peak; the cut takes 3 %.
    assert median == pytest.approx(91.19, abs=0.1)
    assert upper - lower == pytest.approx(2.495 * np.tan(np.arctan(20.0) / 2), rel=0.1)


def test_angular_distance_goes_the_short_way_round():
    assert angular_distance(0.0, 3.0, 0.0, -3.0) == pytest.approx(2 * np.pi - 6.0)
    assert angular_distance(1.0, 0.5, -2.0, 4.5) == pytest.approx(np.hypot(3.0, 2 * np.pi - 4.0))
