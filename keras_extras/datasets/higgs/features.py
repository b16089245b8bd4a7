"""The columns of the Higgs challenge, and its derived features computed from the primitive ones."""

from typing import Any

import numpy as np

from keras_extras.datasets.higgs.kinematics import (
    angular_distance,
    transverse_vector,
    visible_mass,
)

UNDEFINED = -999.0

PRIMITIVE_NAMES = (
    "PRI_tau_pt",
    "PRI_tau_eta",
    "PRI_tau_phi",
    "PRI_lep_pt",
    "PRI_lep_eta",
    "PRI_lep_phi",
    "PRI_met",
    "PRI_met_phi",
    "PRI_met_sumet",
    "PRI_jet_num",
    "PRI_jet_leading_pt",
    "PRI_jet_leading_eta",
    "PRI_jet_leading_phi",
    "PRI_jet_subleading_pt",
    "PRI_jet_subleading_eta",
    "PRI_jet_subleading_phi",
    "PRI_jet_all_pt",
)

DERIVED_NAMES = (
    "DER_mass_transverse_met_lep",
    "DER_mass_vis",
    "DER_pt_h",
    "DER_deltaeta_jet_jet",
    "DER_mass_jet_jet",
    "DER_prodeta_jet_jet",
    "DER_deltar_tau_lep",
    "DER_pt_tot",
    "DER_sum_pt",
    "DER_pt_ratio_lep_tau",
    "DER_met_phi_centrality",
    "DER_lep_eta_centrality",
)

FEATURE_NAMES = ("DER_mass_MMC", *DERIVED_NAMES, *PRIMITIVE_NAMES)


def derived_features(primitives: Any) -> np.ndarray:
    """Computes the challenge's derived features from the primitive ones.

    These are the `DER_` columns other than `DER_mass_MMC`, which is the result of a likelihood
    fit and has no closed form. Particles count as massless, as in the challenge's formulas.
    Everything is computed in float64.

    Args:
        primitives: Array of shape `(n, 17)`, its columns in the order of `PRIMITIVE_NAMES`:
            momenta and energies in GeV, angles in radians. The columns of absent jets (by
            `PRI_jet_num`) may hold anything, -999.0 in the challenge's files.

    Returns:
        Float64 array of shape `(n, 12)`, its columns in the order of `DERIVED_NAMES`. The four
        columns that need two jets are -999.0 in events with fewer.

    Raises:
        ValueError: If `primitives` is not of shape `(n, 17)`.

    Example:

    ```python
    import numpy as np
    from keras_extras.datasets import higgs

    events = higgs.load_events(num_events=100)
    derived = higgs.derived_features(events.features[:, 13:])
    np.testing.assert_allclose(derived, events.features[:, 1:13], rtol=1e-3, atol=1e-2)
    ```

    References:
        - C. Adam-Bourdarios, G. Cowan, C. Germain, I. Guyon, B. Kégl and D. Rousseau (2014),
          Learning to discover: the Higgs boson machine learning challenge, appendix,
          doi:10.7483/OPENDATA.ATLAS.MQ5J.GHXA
    """
    primitives = np.asarray(primitives, dtype="float64")
    if primitives.ndim != 2 or primitives.shape[1] != len(PRIMITIVE_NAMES):
        raise ValueError(
            f"`primitives` must have shape (n, {len(PRIMITIVE_NAMES)}), its columns in the order "
            f"of PRIMITIVE_NAMES. Received: primitives of shape {primitives.shape}"
        )
    columns = primitives.T
    tau_pt, tau_eta, tau_phi, lep_pt, lep_eta, lep_phi, met, met_phi, _, num_jets = columns[:10]
    has_two_jets = num_jets >= 2
    # An absent jet has no momentum, so it adds nothing to the sums below.
    jet1_pt, jet1_eta, jet1_phi = np.where(num_jets >= 1, columns[10:13], 0.0)
    jet2_pt, jet2_eta, jet2_phi = np.where(has_two_jets, columns[13:16], 0.0)
    all_jets_pt = columns[16]

    higgs_momentum = (
        transverse_vector(tau_pt, tau_phi)
        + transverse_vector(lep_pt, lep_phi)
        + transverse_vector(met, met_phi)
    )
    total_momentum = (
        higgs_momentum + transverse_vector(jet1_pt, jet1_phi) + transverse_vector(jet2_pt, jet2_phi)
    )
    jet_mass = visible_mass(jet1_pt, jet1_eta, jet1_phi, jet2_pt, jet2_eta, jet2_phi)

    def with_two_jets(values):
        return np.where(has_two_jets, values, UNDEFINED)

    derived = {
        "DER_mass_transverse_met_lep": np.sqrt(2 * lep_pt * met * (1 - np.cos(lep_phi - met_phi))),
        "DER_mass_vis": visible_mass(tau_pt, tau_eta, tau_phi, lep_pt, lep_eta, lep_phi),
        "DER_pt_h": np.hypot(*higgs_momentum),
        "DER_deltaeta_jet_jet": with_two_jets(np.abs(jet1_eta - jet2_eta)),
        "DER_mass_jet_jet": with_two_jets(jet_mass),
        "DER_prodeta_jet_jet": with_two_jets(jet1_eta * jet2_eta),
        "DER_deltar_tau_lep": angular_distance(tau_eta, tau_phi, lep_eta, lep_phi),
        "DER_pt_tot": np.hypot(*total_momentum),
        "DER_sum_pt": tau_pt + lep_pt + all_jets_pt,
        "DER_pt_ratio_lep_tau": lep_pt / tau_pt,
        "DER_met_phi_centrality": _phi_centrality(met_phi, tau_phi, lep_phi),
        "DER_lep_eta_centrality": with_two_jets(_eta_centrality(lep_eta, jet1_eta, jet2_eta)),
    }
    return np.stack([derived[name] for name in DERIVED_NAMES], axis=1)


def _phi_centrality(met_phi, tau_phi, lep_phi):
    """Where the missing momentum points: sqrt(2) midway between tau and lepton, 1 along either.

    It is negative outside the smaller angle between the two, -sqrt(2) opposite to its middle.
    """
    orientation = np.sign(np.sin(tau_phi - lep_phi))
    a = np.sin(met_phi - lep_phi) * orientation
    b = np.sin(tau_phi - met_phi) * orientation
    norm = np.hypot(a, b)
    return np.divide(a + b, norm, out=np.zeros_like(norm), where=norm > 0)


def _eta_centrality(lep_eta, jet1_eta, jet2_eta):
    """1 for a lepton midway between the jets in pseudorapidity, 1 / e along either."""
    offset, gap = 2 * lep_eta - (jet1_eta + jet2_eta), jet1_eta - jet2_eta
    ratio = np.divide(offset, gap, out=np.full_like(gap, np.inf), where=gap != 0)
    return np.exp(-(ratio**2))
