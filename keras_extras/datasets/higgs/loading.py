"""Loads the events of the Higgs challenge from wherever they come."""

import os
import reprlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_extras._core.checks import check_integer, check_number
from keras_extras.datasets.higgs.csv_file import from_frame, read_events
from keras_extras.datasets.higgs.download import download_atlas_file
from keras_extras.datasets.higgs.events import HiggsEvents, split_events
from keras_extras.datasets.higgs.simulation import simulate_events


def load_events(
    source: Any = "simulated",
    num_events: int | None = None,
    seed: int | None = 0,
) -> HiggsEvents:
    """Loads events of the ATLAS Higgs boson machine learning challenge, or simulates such events.

    The task is to tell Higgs bosons that decay to two taus (signal) from other collisions that
    look alike (background), by 30 features: 13 derived ones (`DER_`) and 17 primitive ones
    (`PRI_`). Momenta, energies and masses are in GeV, angles in radians. -999.0 marks undefined
    values, as those of absent jets (see `keras_extras.layers.MissingValueImputer`).

    **The simulation** is a toy Monte Carlo that needs no network. It has the shape of the real
    task and is not made to do physics with. The signal is a Higgs boson of 125 GeV from gluon
    fusion or vector-boson fusion; the backgrounds are Z bosons to two taus, top-quark pairs, and
    W bosons with a jet that is mistaken for a tau. Modelled are: masses (Breit-Wigner), isotropic
    decays with exact kinematics, the shares of momentum that neutrinos take from the taus,
    radiated jets and the recoil against them, soft particles, resolutions, and thresholds as in
    the challenge's selection. Not modeled are: matrix elements, spin, the masses of leptons and
    jets, the tagging of bottom jets, and misidentification other than of that jet. Numbers such
    as the share of each process and the spectrum of the jets are set so that the columns look
    like the real ones. `derived_features` computes all derived columns but `DER_mass_MMC`, for
    which a simpler likelihood scan stands in. 34 % of the rows are signal; the rows of one process
    weigh the same, and the weights of each class sum to `SIGNAL_WEIGHT_SUM` and
    `BACKGROUND_WEIGHT_SUM`. A random forest separates the classes with an area under the ROC
    curve of 0.89, the same as on real events.

    **The files** may be the `training.csv` of the Kaggle challenge or the CERN open data file
    `atlas-higgs-challenge-2014-v2.csv`, or hold part of their rows, separated by commas,
    semicolons, tabs or bars, and compressed by gzip, bzip2, xz or zip (an archive of one CSV file)
    or not; both are recognized by the content. Columns are found by name, further ones are ignored.
    Weights are returned as they are in the file: see `rescale_weights`. Reading needs pandas
    (`pip install "keras-extras[data]"`).

    Args:
        source: `"simulated"`, `"atlas"`, the path of a CSV file, or a pandas DataFrame with the
            columns of one (`EventId` may be its index). `"atlas"` stands for the CERN
            open data file (record 328, 818,238 events, 66 MB), which is downloaded on first use,
            checked against its published SHA-1 checksum and kept in Keras' cache folder.
            Defaults to `"simulated"`.
        num_events: Number of simulated events, or the number of rows, at most, to read from the
            start of the file. Defaults to `None`: 20,000 simulated events, or the whole file.
        seed: Seed of the simulation: same seed and number, same events. `None` draws new events
            on every call. Files do not depend on it. Defaults to 0.

    Returns:
        `HiggsEvents`, a named tuple of

        - `features`: float32 array of shape `(n, 30)`, columns as in `FEATURE_NAMES`,
        - `labels`: int32 array of shape `(n,)`, 1 for signal and 0 for background,
        - `weights`: float32 array of shape `(n,)`, the number of real events a row stands for,
        - `event_ids`: int64 array of shape `(n,)`,
        - `feature_names`: tuple of the 30 names.

    Raises:
        FileNotFoundError: If `source` is neither of the two words nor an existing file.
        ValueError: If the file is damaged or not in the challenge's format; the message names
            line and column. If the downloaded file has another checksum than the published one.
        ConnectionError: If the download fails.
        ImportError: If a file is to be read and pandas is not installed.

    Example:

    ```python
    import keras_extras

    events = keras_extras.datasets.higgs.load_events(num_events=1000)
    print(events.features.shape)  # (1000, 30)
    print(events.labels.mean())  # 0.34
    features, labels, weights, event_ids, feature_names = events
    ```

    References:
        - ATLAS collaboration (2014), Dataset from the ATLAS Higgs Boson Machine Learning
          Challenge 2014, doi:10.7483/OPENDATA.ATLAS.ZBP2.M5T8
        - C. Adam-Bourdarios, G. Cowan, C. Germain, I. Guyon, B. Kégl and D. Rousseau (2014),
          Learning to discover: the Higgs boson machine learning challenge,
          doi:10.7483/OPENDATA.ATLAS.MQ5J.GHXA
    """
    if num_events is not None:
        check_integer("num_events", num_events)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return from_frame(source, num_events)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "`source` must be 'simulated', 'atlas', the path of a CSV file or a pandas DataFrame. "
            f"Received: source={reprlib.repr(source)}"
        )
    if source == "simulated":
        return simulate_events(num_events or 20_000, np.random.default_rng(seed))
    if source == "atlas":
        return read_events(download_atlas_file(), num_events)
    return read_events(_existing_file(source), num_events)


def load_data(
    source: Any = "simulated",
    num_events: int | None = None,
    test_size: float = 0.2,
    seed: int | None = 0,
) -> tuple[HiggsEvents, HiggsEvents]:
    """Loads events, shuffles them and splits them into train and test.

    Both parts hold the same share of signal. The weights of each part are rescaled as by
    `rescale_weights`: in train and in test alike they sum to `SIGNAL_WEIGHT_SUM` over the signal
    and to `BACKGROUND_WEIGHT_SUM` over the background, so that a significance computed on either
    is comparable with those of the challenge.

    Args:
        source: `"simulated"`, `"atlas"`, the path of a CSV file or a DataFrame: see
            `load_events`.
        num_events: Number of events of both parts together: see `load_events`.
        test_size: Share of the events that go to test, between 0 and 1. Defaults to 0.2.
        seed: Seed of the simulation and of the split. `None` makes both new on every call.
            Defaults to 0.

    Returns:
        `(train, test)`, both `HiggsEvents`: see `load_events`.

    Raises:
        ValueError: If `test_size` leaves either part without events of one class.
        FileNotFoundError, ConnectionError, ImportError: As `load_events`.

    Example:

    ```python
    import keras
    import keras_extras

    train, test = keras_extras.datasets.higgs.load_data(num_events=1000)
    model = keras.Sequential(
        [
            keras_extras.layers.MissingValueImputer(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.layers[0].adapt(train.features)
    model.compile(loss="binary_crossentropy", metrics=["auc"])
    model.fit(train.features, train.labels, verbose=0)
    model.evaluate(test.features, test.labels, verbose=0)
    ```
    """
    check_number("test_size", test_size, above=0.0, at_most=1.0)
    events = load_events(source, num_events, seed)
    # Another stream: the split does not repeat the random numbers of the simulation.
    (rng,) = np.random.default_rng(seed).spawn(1)
    return split_events(events, test_size, rng)


def _existing_file(source):
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            "`source` must be 'simulated', 'atlas' or the path of an existing CSV file. "
            f"Received: source={source!r}"
        )
    return path
