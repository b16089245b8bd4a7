import numpy as np
import pytest

from keras_extras.datasets import higgs
from keras_extras.datasets.higgs.detector import accept, measure
from keras_extras.datasets.higgs.missing_mass import missing_mass
from keras_extras.datasets.higgs.processes import (
    PROCESSES,
    gluon_fusion,
    top_pair,
    vector_boson_fusion,
    w_with_jets,
    z_to_tau_tau,
)

COLUMN = {name: i for i, name in enumerate(higgs.FEATURE_NAMES)}


@pytest.fixture(scope="module")
def events():
    return higgs.load_events()


@pytest.fixture(scope="module")
def samples():
    """The features of each process by name, as many events as pass the selection."""
    rng = np.random.default_rng(11)
    samples = {}
    for process in PROCESSES:
        primitives = accept(measure(rng, process.collide(rng, 20_000)))
        columns = [missing_mass(primitives)[:, None], higgs.derived_features(primitives)]
        samples[process.collide] = np.concatenate([*columns, primitives], axis=1)
    return samples


def column(features, name):
    values = features[:, COLUMN[name]]
    return values[values != -999.0]


def test_shapes_and_types(events):
    features, labels, weights, event_ids, feature_names = events
    assert features.shape == (20_000, 30)
    assert features.dtype == np.float32
    assert labels.dtype == np.int32
    assert weights.dtype == np.float32
    assert event_ids.dtype == np.int64
    assert feature_names == higgs.FEATURE_NAMES
    assert labels.shape == weights.shape == event_ids.shape == (20_000,)
    assert np.unique(event_ids).size == 20_000
    assert np.isfinite(features).all()


def test_same_seed_same_events():
    first, again = higgs.load_events(num_events=300), higgs.load_events(num_events=300)
    other = higgs.load_events(num_events=300, seed=1)
    for values, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(values, same)
    assert not np.array_equal(first.features, other.features)


def test_unseeded_events_differ():
    first, second = (higgs.load_events(num_events=50, seed=None) for _ in range(2))
    assert not np.array_equal(first.features, second.features)


@pytest.mark.parametrize("num_events", [1, 2, 3, 7, 100])
def test_any_number_of_events(num_events):
    events = higgs.load_events(num_events=num_events)
    assert events.features.shape == (num_events, 30)
    assert (events.weights > 0).all()


def test_classes_are_mixed_and_weigh_what_they_must(events):
    signal = events.labels == 1
    assert signal.mean() == pytest.approx(0.34)
    assert signal[:1000].mean() == pytest.approx(0.34, abs=0.06)
    assert events.weights[signal].sum() == pytest.approx(higgs.SIGNAL_WEIGHT_SUM, rel=1e-5)
    assert events.weights[~signal].sum() == pytest.approx(higgs.BACKGROUND_WEIGHT_SUM, rel=1e-5)
    # Two processes make the signal, three the background; all rows of one weigh the same.
    assert np.unique(events.weights[signal]).size == 2
    assert np.unique(events.weights[~signal]).size == 3


def test_shares_of_the_processes_are_complete():
    assert sum(p.row_share for p in PROCESSES) == pytest.approx(1.0)
    for is_signal in (True, False):
        shares = [p.weight_share for p in PROCESSES if p.is_signal == is_signal]
        assert sum(shares) == pytest.approx(1.0)


def test_undefined_values_are_where_jets_are_absent(events):
    features = events.features
    num_jets = features[:, COLUMN["PRI_jet_num"]]
    assert set(np.unique(num_jets)) == {0.0, 1.0, 2.0, 3.0}
    for name, i in COLUMN.items():
        undefined = features[:, i] == -999.0
        if name.startswith("PRI_jet_leading"):
            np.testing.assert_array_equal(undefined, num_jets < 1)
        elif name.startswith("PRI_jet_subleading") or "jet_jet" in name or "lep_eta_" in name:
            np.testing.assert_array_equal(undefined, num_jets < 2)
        elif name != "DER_mass_MMC":
            assert not undefined.any(), name
    np.testing.assert_array_equal(features[:, COLUMN["PRI_jet_all_pt"]] == 0.0, num_jets == 0)


def test_values_pass_the_selection(events):
    features = events.features
    assert column(features, "PRI_tau_pt").min() >= 20.0
    assert column(features, "PRI_lep_pt").min() >= 26.0
    assert column(features, "PRI_jet_subleading_pt").min() >= 30.0
    for name in ("PRI_tau_eta", "PRI_lep_eta"):
        assert np.abs(column(features, name)).max() <= 2.5
    assert np.abs(column(features, "PRI_jet_leading_eta")).max() <= 4.5
    for name in higgs.PRIMITIVE_NAMES:
        if name.endswith("_phi"):
            assert np.abs(column(features, name)).max() <= np.float32(np.pi)
    leading = features[:, COLUMN["PRI_jet_leading_pt"]]
    assert (leading >= features[:, COLUMN["PRI_jet_subleading_pt"]]).all()


def test_derived_columns_are_those_of_the_primitives(events):
    np.testing.assert_allclose(
        higgs.derived_features(events.features[:, 13:]),
        events.features[:, 1:13],
        rtol=1e-3,
        atol=2e-2,
    )


def test_masses_peak_where_they_should(samples):
    """The estimated mass, with the resolution of the detector: medians within 4 %."""
    for process, mass in (
        (gluon_fusion, 125.0),
        (vector_boson_fusion, 125.0),
        (z_to_tau_tau, 91.2),
    ):
        assert np.median(column(samples[process], "DER_mass_MMC")) == pytest.approx(mass, rel=0.04)


def test_w_bosons_show_in_the_transverse_mass(samples):
    """A W boson's lepton and neutrino reach up to its mass; those of tau pairs mostly cancel."""
    name = "DER_mass_transverse_met_lep"
    assert np.median(column(samples[w_with_jets], name)) == pytest.approx(72.0, abs=5.0)
    assert np.median(column(samples[z_to_tau_tau], name)) < 35.0
    assert np.median(column(samples[gluon_fusion], name)) < 35.0


def test_vector_boson_fusion_has_the_widest_jet_pairs(samples):
    gaps = {p: np.median(column(f, "DER_deltaeta_jet_jet")) for p, f in samples.items()}
    assert gaps.pop(vector_boson_fusion) > 1.5 * max(gaps.values())


def test_top_pairs_have_the_most_jets(samples):
    numbers = {p: column(f, "PRI_jet_num").mean() for p, f in samples.items()}
    assert max(numbers, key=numbers.get) is top_pair


def test_collisions_are_symmetric_in_azimuth(events):
    """Mean cosines and sines vanish to 5 deviations of sqrt(1 / 2n)."""
    for name in ("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi", "PRI_jet_leading_phi"):
        phi = column(events.features, name).astype("float64")
        bound = 5 * np.sqrt(0.5 / phi.size)
        assert np.abs(np.cos(phi).mean()) < bound
        assert np.abs(np.sin(phi).mean()) < bound


@pytest.mark.parametrize("seed", [0, 1])
def test_random_forest_separates_the_classes_as_on_real_events(seed):
    ensemble, metrics = (
        pytest.importorskip("sklearn.ensemble"),
        pytest.importorskip("sklearn.metrics"),
    )
    train, test = higgs.load_data(num_events=10_000, test_size=0.4, seed=seed)
    forest = ensemble.RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    forest.fit(train.features, train.labels)
    score = metrics.roc_auc_score(test.labels, forest.predict_proba(test.features)[:, 1])
    assert 0.86 < score < 0.93


def test_columns_are_distributed_like_the_real_ones(events, atlas_csv):
    """Largest distance of the distribution functions, per class and column, where defined."""
    real = higgs.load_events(atlas_csv)
    for label in (0, 1):
        for name in higgs.FEATURE_NAMES:
            simulated = column(events.features[events.labels == label], name)
            measured = column(real.features[real.labels == label], name)
            assert distribution_distance(simulated, measured) < 0.2, (label, name)


def test_undefined_shares_are_like_the_real_ones(events, atlas_csv):
    real = higgs.load_events(atlas_csv)
    for label in (0, 1):
        simulated, measured = (
            np.mean(e.features[e.labels == label] == -999.0, axis=0) for e in (events, real)
        )
        np.testing.assert_allclose(simulated, measured, atol=0.06)


def distribution_distance(first, second):
    """The two-sample Kolmogorov-Smirnov statistic."""
    at = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(x), at, side="right") / x.size for x in (first, second)]
    return np.abs(below[0] - below[1]).max()
