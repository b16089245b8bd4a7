"""Reads events from CSV files in the format of the Kaggle challenge or of the CERN open data."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.datasets.higgs.events import HiggsEvents
from keras_extras.datasets.higgs.features import FEATURE_NAMES

_LABELS = {"s": 1, "b": 0}
_COLUMN_TYPES = {
    "EventId": "int64",
    **dict.fromkeys((*FEATURE_NAMES, "Weight"), "float64"),
    "Label": "str",
}
# utf-8 with or without the byte order mark that spreadsheets write.
_ENCODING = "utf-8-sig"


def read_events(path: Path, num_events: int | None = None) -> HiggsEvents:
    """Reads the first `num_events` events of a CSV file, all by default.

    Columns are found by name, further ones are ignored. A name that ends in `.gz` is a gzip file.

    Raises:
        ValueError: If the file is not sound; the message names the file and the first fault's
            line (the header is line 1) and column.
    """
    pandas = import_optional("pandas", extra="data", purpose="Reading events from a CSV file")
    # A number beyond single precision becomes infinite, which is told with its place.
    with _explained_errors(path), np.errstate(over="ignore"):
        header = _read_header(path)
        try:
            frame = pandas.read_csv(
                path,
                # The last column too, for it shows which lines are cut off.
                usecols=sorted({len(header) - 1, *map(header.index, _COLUMN_TYPES)}),
                dtype={header[-1]: "str", **_COLUMN_TYPES},
                index_col=False,
                nrows=num_events,
                compression="gzip" if _is_gzip(path) else None,
                encoding=_ENCODING,
            )
        except (ValueError, OverflowError) as error:  # pandas' own errors do not say where
            _raise_first_fault(path, num_events)
            raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error

        features = frame[list(FEATURE_NAMES)].to_numpy("float32")
        weights = frame["Weight"].to_numpy("float32")
        labels = frame["Label"].map(_LABELS).to_numpy("float64")
        are_finite = all(np.isfinite(values).all() for values in (features, weights, labels))
        if not are_finite or frame.iloc[:, -1].isna().any():
            _raise_first_fault(path, num_events)
    if len(frame) == 0:
        raise ValueError(f"{path} has a header, but no events.")
    return HiggsEvents(
        features,
        labels.astype("int32"),
        weights,
        frame["EventId"].to_numpy(),
        FEATURE_NAMES,
    )


def _read_header(path) -> list[str]:
    with _open(path) as file:
        header = next(csv.reader(file), [])
    missing = [name for name in _COLUMN_TYPES if name not in header]
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} of the {len(_COLUMN_TYPES)} columns needed: "
            f"{', '.join(missing)}. Its first line must name the columns as in the files of the "
            f"Higgs challenge; it names {len(header)}: {', '.join(header) or 'none'}"
        )
    return header


def _raise_first_fault(path, num_events):
    """Searches line by line, slowly, for what a fast reading only knows to be somewhere."""
    with _open(path) as file:
        lines = csv.reader(file)
        header = next(lines)
        for fields in itertools.islice(filter(None, lines), num_events):
            place = f"{path}, line {lines.line_num}"
            if len(fields) != len(header):
                raise ValueError(
                    f"{place}: {len(fields)} values for the {len(header)} columns of the header. "
                    "The line is cut off or damaged: get the file anew or delete the line."
                )
            for name, text in zip(header, fields, strict=True):
                _check_value(place, name, text)


def _check_value(place, name, text):
    if name == "Label":
        if text not in _LABELS:
            raise ValueError(
                f"{place}, column Label: a label must be 's' (signal) or 'b' (background). "
                f"Received: {text!r}"
            )
    elif name == "EventId":
        if not _is_integer(text):
            raise ValueError(f"{place}, column EventId: expected an integer. Received: {text!r}")
    elif name in _COLUMN_TYPES and not _is_finite_number(text):
        raise ValueError(
            f"{place}, column {name}: expected a finite number of single precision (-999.0 where "
            f"undefined). Received: {text!r}"
        )


def _is_integer(text):
    try:
        int(text)
    except ValueError:
        return False
    return True


def _is_finite_number(text):
    try:
        return abs(float(text)) <= np.finfo("float32").max
    except ValueError:
        return False


def _is_gzip(path):
    return path.suffix.lower() == ".gz"


def _open(path) -> TextIO:
    return (gzip.open if _is_gzip(path) else open)(path, "rt", encoding=_ENCODING, newline="")


@contextmanager
def _explained_errors(path) -> Iterator[None]:
    """Turns the errors of a damaged file into ones that name it."""
    try:
        yield
    except EOFError as error:
        raise ValueError(
            f"{path} is cut off: its compressed data end early. Get it anew."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is not a sound gzip file, though its name ends in .gz: {error}. Get it anew, "
            "or rename it if it is not compressed."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text file in CSV format: {error}") from error
