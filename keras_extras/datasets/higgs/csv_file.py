"""Reads events from CSV files in the format of the Kaggle challenge or of the CERN open data."""

import csv
import gzip
import itertools
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_extras._core.optional import import_optional
from keras_extras.datasets.higgs.events import HiggsEvents
from keras_extras.datasets.higgs.features import FEATURE_NAMES
from keras_extras.datasets.higgs.text_file import open_text

_LABELS = {"s": 1, "b": 0}
_NUMBERS = ("EventId", *FEATURE_NAMES, "Weight")
_COLUMN_TYPES = {**dict.fromkeys(_NUMBERS, "float64"), "EventId": "int64", "Label": "str"}
_LONGEST_HEADER = 1 << 20  # characters
_SEPARATORS = ",;\t|"


def read_events(path: Path, num_events: int | None = None) -> HiggsEvents:
    """Reads the first `num_events` events of a CSV file, all by default.

    Columns are found by name, further ones are ignored. Compression and separator are recognized
    by the content of the file.

    Raises:
        ValueError: If the file is not sound; the message names the file and the first fault's
            line (the header is line 1) and column.
    """
    pandas = import_optional("pandas", extra="data", purpose="Reading events from a CSV file")
    # A number beyond single precision becomes infinite, which is an error that names its place.
    with _explained_errors(path), np.errstate(over="ignore"):
        header, separator = _read_header(path)
        try:
            # The last column too, for it shows which lines are cut off.
            places = {len(header) - 1, *map(header.index, _COLUMN_TYPES)}
            options = {"sep": separator, "index_col": False, "nrows": num_events}
            with open_text(path) as file:
                frame = pandas.read_csv(
                    file,
                    usecols=sorted(places),
                    dtype={header[-1]: "str", **_COLUMN_TYPES},
                    **options,
                )
            # pandas takes a column of True and False for numbers.
            binary = [name for name in _NUMBERS if frame[name].isin([0, 1]).all()]
            if binary:
                with open_text(path) as file:
                    usecols = [header.index(name) for name in binary]
                    texts = pandas.read_csv(file, usecols=usecols, dtype="str", **options)
                if any(texts[name].str.contains("(?i)true|false").any() for name in binary):
                    raise ValueError("a column holds truth values")
        except (ValueError, OverflowError) as error:  # pandas' own errors do not say where
            _raise_first_fault(path, num_events)
            raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error

        events = _as_events(frame)
        if not _are_finite(events) or frame.iloc[:, -1].isna().any():
            _raise_first_fault(path, num_events)
    if len(frame) == 0:
        raise ValueError(f"{path} has a header, but no events.")
    return events._replace(labels=events.labels.astype("int32"))


def from_frame(frame: Any, num_events: int | None = None) -> HiggsEvents:
    """Returns the first `num_events` events of a pandas DataFrame, all by default.

    Raises:
        ValueError: If columns are missing or a value is not sound; the message names the column
            and the row.
    """
    if frame.index.name == "EventId" and "EventId" not in frame:
        frame = frame.reset_index()
    _check_columns("`source`", list(map(str, frame.columns)))
    frame = frame.loc[:, ~frame.columns.duplicated()].head(num_events or len(frame))
    if len(frame) == 0:
        raise ValueError("`source` must hold at least one event. Received: an empty DataFrame")
    try:
        with np.errstate(over="ignore"):
            events = _as_events(frame)
        is_sound = _are_finite(events) and events.event_ids.dtype.kind in "iu"
        is_sound = is_sound and events.event_ids.max() <= np.iinfo("int64").max
        is_sound = is_sound and all(frame[name].dtype.kind in "iuf" for name in _NUMBERS)
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound:
        for name in _COLUMN_TYPES:
            for row, value in zip(frame.index, frame[name]):
                _check_value(f"`source`, row {row!r}", name, str(value))
    return events._replace(
        labels=events.labels.astype("int32"), event_ids=events.event_ids.astype("int64")
    )


def _as_events(frame):
    """The columns of a frame; labels that are neither `"s"` nor `"b"` are NaN."""
    return HiggsEvents(
        frame[list(FEATURE_NAMES)].to_numpy("float32"),
        frame["Label"].map(_LABELS).to_numpy("float64"),
        frame["Weight"].to_numpy("float32"),
        frame["EventId"].to_numpy(),
        FEATURE_NAMES,
    )


def _are_finite(events):
    return all(np.isfinite(v).all() for v in (events.features, events.labels, events.weights))


def _read_header(path) -> tuple[list[str], str]:
    """The names of the columns, and the separator with which most of those needed are found."""
    with open_text(path) as file:
        lines = [file.readline(_LONGEST_HEADER)]
    headers = {sep: next(csv.reader(lines, delimiter=sep), []) for sep in _SEPARATORS}
    separator = min(headers, key=lambda sep: len(set(_COLUMN_TYPES) - set(headers[sep])))
    _check_columns(path, headers[separator])
    return headers[separator], separator


def _check_columns(source, header):
    missing = [name for name in _COLUMN_TYPES if name not in header]
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing)} of the {len(_COLUMN_TYPES)} columns needed: "
            f"{', '.join(missing)}. Its columns must have the names of the files of the "
            f"Higgs challenge; it names {len(header)}: {', '.join(header) or 'none'}"
        )


def _raise_first_fault(path, num_events):
    """Searches line by line, slowly, for what a fast reading only knows to be somewhere."""
    _, separator = _read_header(path)
    with open_text(path) as file:
        lines = csv.reader(file, delimiter=separator)
        header = next(lines)
        for fields in itertools.islice(filter(None, lines), num_events):
            place = f"{path}, line {lines.line_num}"
            if len(fields) != len(header):
                raise ValueError(
                    f"{place}: {len(fields)} values for the {len(header)} columns of the header. "
                    "The line is cut off or damaged: get the file again or delete the line."
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
            f"undefined, a point before decimals). Received: {text!r}"
        )


def _is_integer(text):
    # Python also takes the digits of other scripts, and 1_0.
    if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) is None:
        return False
    limits = np.iinfo("int64")
    return limits.min <= int(text) <= limits.max


def _is_finite_number(text):
    if not text.isascii() or "_" in text:
        return False
    try:
        return abs(float(text)) <= np.finfo("float32").max
    except ValueError:
        return False


@contextmanager
def _explained_errors(path) -> Iterator[None]:
    """Turns the errors of a damaged file into ones that name it."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a sound zip archive: {error}. Download it again."
        ) from error
    except EOFError as error:
        raise ValueError(
            f"{path} is cut off: its compressed data end early. Download it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"{path} is not a sound gzip file, though its name or its first bytes say so: {error}. "
            "Download it again, or rename it if it is not compressed."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text file in CSV format: {error}") from error
