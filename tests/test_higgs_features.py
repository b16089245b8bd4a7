import numpy as np
import pytest

from keras_extras.datasets import higgs
from keras_extras.datasets.higgs.missing_mass import missing_mass

# The file holds rounded angles, and these two depend on them the most.
MEDIAN_ERROR_BOUNDS = {"DER_mass_jet_jet": 1e-2, "DER_pt_tot": 1e-2}
PAIR_NAMES = [name for name in higgs.DERIVED_NAMES if "jet_jet" in name] + [
    "DER_lep_eta_centrality"
]

NO_JETS = {
    "PRI_tau_pt": 30.0,
    "PRI_tau_eta": 0.0,
    "PRI_tau_phi": np.pi / 2,
    "PRI_lep_pt": 40.0,
    "PRI_lep_eta": 0.0,
    "PRI_lep_phi": 0.0,
    "PRI_met": 10.0,
    "PRI_met_phi": np.pi / 4,
    "PRI_met_sumet": 100.0,
    "PRI_jet_num": 0,
    "PRI_jet_leading_pt": -999.0,
    "PRI_jet_leading_eta": -999.0,
    "PRI_jet_leading_phi": -999.0,
    "PRI_jet_subleading_pt": -999.0,
    "PRI_jet_subleading_eta": -999.0,
    "PRI_jet_subleading_phi": -999.0,
    "PRI_jet_all_pt": 0.0,
}
ONE_JET = NO_JETS | {
    "PRI_jet_num": 1,
    "PRI_jet_leading_pt": 50.0,
    "PRI_jet_leading_eta": 1.0,
    "PRI_jet_leading_phi": np.pi,
    "PRI_jet_all_pt": 50.0,
}
TWO_JETS = ONE_JET | {
    "PRI_jet_num": 2,
    "PRI_lep_eta": 0.5,
    "PRI_jet_subleading_pt": 40.0,
    "PRI_jet_subleading_eta": -1.0,
    "PRI_jet_subleading_phi": -np.pi / 2,
    "PRI_jet_all_pt": 90.0,
}


def derived(event):
    with np.errstate(all="raise"):
        row = higgs.derived_features([[event[name] for name in higgs.PRIMITIVE_NAMES]])
    assert row.shape == (1, 12)
    return dict(zip(higgs.DERIVED_NAMES, row[0], strict=True))


def random_primitives(n=500, seed=3):
    return higgs.load_events(num_events=n, seed=seed).features[:, 13:].astype("float64")


def columns_matching(*parts):
    names = higgs.PRIMITIVE_NAMES
    return [i for i, name in enumerate(names) if any(name.endswith(part) for part in parts)]


def test_names_are_the_challenge_s_columns_in_order():
    assert len(higgs.FEATURE_NAMES) == 30
    assert higgs.FEATURE_NAMES[0] == "DER_mass_MMC"
    assert higgs.FEATURE_NAMES[1:13] == higgs.DERIVED_NAMES
    assert higgs.FEATURE_NAMES[13:] == higgs.PRIMITIVE_NAMES


@pytest.mark.parametrize("name", higgs.DERIVED_NAMES)
def test_agrees_with_the_real_events(name, atlas_csv):
    events = higgs.load_events(atlas_csv)
    expected = events.features[:, higgs.FEATURE_NAMES.index(name)]
    computed = higgs.derived_features(events.features[:, 13:])[:, higgs.DERIVED_NAMES.index(name)]
    defined = expected != -999.0
    np.testing.assert_array_equal(computed != -999.0, defined)
    # Columns that are exactly zero in the file have an absolute error only.
    comparable = defined & (expected != 0.0)
    error = np.abs(computed[comparable] / expected[comparable] - 1.0)
    assert np.median(error) < MEDIAN_ERROR_BOUNDS.get(name, 1e-3)


def test_event_without_jets_by_hand():
    features = derived(NO_JETS)
    # Of tau (0, 30), lepton (40, 0) and missing momentum 10 (cos 45, sin 45).
    sum_of_all = np.hypot(40 + 10 / np.sqrt(2), 30 + 10 / np.sqrt(2))
    expected = {
        "DER_mass_transverse_met_lep": np.sqrt(2 * 40 * 10 * (1 - np.sqrt(0.5))),
        "DER_mass_vis": np.sqrt(2 * 30 * 40),
        "DER_pt_h": sum_of_all,
        "DER_deltar_tau_lep": np.pi / 2,
        "DER_pt_tot": sum_of_all,
        "DER_sum_pt": 70.0,
        "DER_pt_ratio_lep_tau": 4 / 3,
        "DER_met_phi_centrality": np.sqrt(2),
    } | dict.fromkeys(PAIR_NAMES, -999.0)
    assert features == pytest.approx(expected, rel=1e-12)


def test_one_jet_adds_to_the_total_momentum_and_makes_no_pair():
    features = derived(ONE_JET)
    px, py = 40 + 10 / np.sqrt(2) - 50, 30 + 10 / np.sqrt(2)
    assert features["DER_pt_tot"] == pytest.approx(np.hypot(px, py), rel=1e-12)
    assert features["DER_pt_h"] == pytest.approx(derived(NO_JETS)["DER_pt_h"], rel=1e-12)
    assert features["DER_sum_pt"] == 120.0
    assert [features[name] for name in PAIR_NAMES] == [-999.0] * 4


@pytest.mark.parametrize("num_jets", [2, 3])
def test_two_or_more_jets_by_hand(num_jets):
    features = derived(TWO_JETS | {"PRI_jet_num": num_jets})
    px, py = 40 + 10 / np.sqrt(2) - 50, 30 + 10 / np.sqrt(2) - 40
    expected = {
        "DER_deltaeta_jet_jet": 2.0,
        "DER_mass_jet_jet": np.sqrt(2 * 50 * 40 * np.cosh(2.0)),
        "DER_prodeta_jet_jet": -1.0,
        "DER_lep_eta_centrality": np.exp(-0.25),
        "DER_deltar_tau_lep": np.hypot(0.5, np.pi / 2),
        "DER_mass_vis": np.sqrt(2 * 30 * 40 * np.cosh(0.5)),
        "DER_pt_tot": np.hypot(px, py),
        "DER_sum_pt": 160.0,
    }
    assert {name: features[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("met_phi", "expected"),
    [(0.0, 1.0), (np.pi / 2, 1.0), (np.pi / 4, np.sqrt(2)), (-3 * np.pi / 4, -np.sqrt(2))],
)
def test_centrality_of_the_missing_momentum(met_phi, expected):
    for mirrored in (1, -1):
        event = NO_JETS | {"PRI_tau_phi": mirrored * np.pi / 2, "PRI_met_phi": mirrored * met_phi}
        assert derived(event)["DER_met_phi_centrality"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("lep_eta", "expected"), [(0.0, 1.0), (1.0, np.exp(-1)), (-1.0, np.exp(-1)), (2.0, np.exp(-4))]
)
def test_centrality_of_the_lepton_between_the_jets(lep_eta, expected):
    features = derived(TWO_JETS | {"PRI_lep_eta": lep_eta})
    assert features["DER_lep_eta_centrality"] == pytest.approx(expected, rel=1e-12)


def test_degenerate_directions_stay_finite():
    aligned = TWO_JETS | {"PRI_tau_phi": 0.0, "PRI_met_phi": 0.0, "PRI_jet_subleading_eta": 1.0}
    features = derived(aligned)
    assert features["DER_met_phi_centrality"] == 0.0
    assert features["DER_lep_eta_centrality"] == 0.0
    assert np.isfinite(list(features.values())).all()


def test_rotation_about_the_beam_changes_nothing():
    primitives = random_primitives()
    rotated = primitives.copy()
    rotated[:, columns_matching("_phi")] += 1.234
    np.testing.assert_allclose(
        higgs.derived_features(rotated), higgs.derived_features(primitives), rtol=1e-7, atol=1e-7
    )


def test_boost_along_the_beam_changes_only_the_product_of_the_etas():
    primitives = random_primitives()
    boosted = primitives.copy()
    boosted[:, columns_matching("_eta")] += 0.7
    same = [i for i, name in enumerate(higgs.DERIVED_NAMES) if name != "DER_prodeta_jet_jet"]
    np.testing.assert_allclose(
        higgs.derived_features(boosted)[:, same],
        higgs.derived_features(primitives)[:, same],
        rtol=1e-7,
        atol=1e-7,
    )


@pytest.mark.parametrize("shape", [(17,), (3, 16), (3, 30), (2, 3, 17)])
def test_rejects_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(n, 17\).*Received: primitives of shape"):
        higgs.derived_features(np.zeros(shape))


def test_accepts_no_events():
    assert higgs.derived_features(np.zeros((0, 17))).shape == (0, 12)


@pytest.mark.parametrize(
    ("lep_share", "tau_share"), [(0.3, 0.6), (0.5, 0.5), (0.4, 0.9), (0.7, 0.7)]
)
def test_missing_mass_finds_the_mass_of_an_exactly_measured_pair(lep_share, tau_share):
    """Tau and lepton at right angles, neutrinos with the rest of their momenta."""
    px, py = 40.0 * (1 / lep_share - 1), 60.0 * (1 / tau_share - 1)
    event = NO_JETS | {"PRI_tau_pt": 60.0, "PRI_lep_pt": 40.0}
    event |= {"PRI_met": np.hypot(px, py), "PRI_met_phi": np.arctan2(py, px)}
    (mass,) = missing_mass(np.array([[event[name] for name in higgs.PRIMITIVE_NAMES]]))
    expected = derived(event)["DER_mass_vis"] / np.sqrt(lep_share * tau_share)
    assert mass == pytest.approx(expected, rel=0.1)


def test_missing_mass_is_undefined_where_no_neutrinos_fit():
    event = NO_JETS | {"PRI_met": 100.0, "PRI_met_phi": -3 * np.pi / 4}
    assert missing_mass(np.array([[event[name] for name in higgs.PRIMITIVE_NAMES]])) == -999.0


def test_missing_mass_resembles_the_real_column(atlas_csv):
    features = higgs.load_events(atlas_csv).features
    real, estimated = features[:, 0], missing_mass(features[:, 13:].astype("float64"))
    assert np.mean((real == -999.0) == (estimated == -999.0)) > 0.95
    both = (real != -999.0) & (estimated != -999.0)
    ratio = estimated[both] / real[both]
    lower, median, upper = np.quantile(ratio, [0.25, 0.5, 0.75])
    assert 0.98 < median < 1.02
    assert 0.95 < lower < upper < 1.05
