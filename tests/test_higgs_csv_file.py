import bz2
import gzip
import lzma
import sys
import zipfile

import numpy as np
import pytest

from keras_extras.datasets import higgs

pandas = pytest.importorskip("pandas")

OPEN_DATA_HEADER = ("EventId", *higgs.FEATURE_NAMES, "Weight", "Label", "KaggleSet", "KaggleWeight")
KAGGLE_HEADER = ("EventId", *higgs.FEATURE_NAMES, "Weight", "Label")


@pytest.fixture(scope="module")
def events():
    return higgs.load_events(num_events=20)


@pytest.fixture(scope="module")
def rows(events):
    """One row a column name, as text."""
    rows = []
    for features, label, weight, event_id, _ in zip(*events[:4], range(20), strict=True):
        row = dict(zip(higgs.FEATURE_NAMES, map(str, features), strict=True))
        row |= {"EventId": str(event_id), "Weight": str(weight), "Label": "sb"[1 - label]}
        rows.append(row | {"KaggleSet": "t", "KaggleWeight": "0.5"})
    return rows


@pytest.fixture
def write(tmp_path, rows):
    """Writes the rows, changed by `edit(lines)`, and returns the path."""

    def write(name="events.csv", header=OPEN_DATA_HEADER, edit=None, encoding="utf-8"):
        lines = [",".join(header)]
        lines += [",".join(row.get(column, "0") for column in header) for row in rows]
        lines = lines if edit is None else edit(lines)
        content = ("\n".join(lines) + "\n").encode(encoding)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def replace(line, column, text):
    """An edit that puts `text` in a column; line 1 is the header."""

    def edit(lines):
        fields = lines[line - 1].split(",")
        fields[OPEN_DATA_HEADER.index(column)] = text
        return [*lines[: line - 1], ",".join(fields), *lines[line:]]

    return edit


def assert_same(first, second):
    for values, expected in zip(first, second, strict=True):
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.txt"])
@pytest.mark.parametrize("header", [OPEN_DATA_HEADER, KAGGLE_HEADER, KAGGLE_HEADER[::-1]])
def test_reads_every_format(write, events, name, header):
    read = higgs.load_events(write(name, header))
    assert_same(read, events)
    assert [values.dtype for values in read[:4]] == [values.dtype for values in events[:4]]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(write, events, separator):
    path = write(edit=lambda lines: [line.replace(",", separator) for line in lines])
    assert_same(higgs.load_events(path), events)
    path = write(edit=lambda lines: [line.replace(",", separator) for line in lines[:-1]] + ["0"])
    with pytest.raises(ValueError, match=r"line 21: 1 values for the 35 columns"):
        higgs.load_events(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_recognized_by_content(write, events, compress):
    path = write()
    path.write_bytes(compress(path.read_bytes()))
    assert_same(higgs.load_events(path), events)


def test_zip_archives_of_one_table(tmp_path, write, events):
    path = write("training.csv")
    with zipfile.ZipFile(tmp_path / "training.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "training.csv")
        archive.writestr("__MACOSX/._training.csv", "")
    assert_same(higgs.load_events(tmp_path / "training.zip"), events)
    assert_same(
        higgs.load_events(tmp_path / "training.zip", 5), [v[:5] for v in events[:4]] + [events[4]]
    )
    with zipfile.ZipFile(tmp_path / "training.zip", "a") as archive:
        archive.writestr("test.csv", "")
    with pytest.raises(ValueError, match=r"exactly one CSV file: unpack.*test\.csv"):
        higgs.load_events(tmp_path / "training.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "training.zip").read_bytes()[:500])
    with pytest.raises(ValueError, match="not a sound zip archive"):
        higgs.load_events(tmp_path / "cut.zip")


def test_data_frames(write, events):
    frame = pandas.read_csv(write())
    for given in (frame, frame.set_index("EventId"), frame[frame.columns[::-1]]):
        read = higgs.load_events(given)
        assert_same(read, events)
        assert [values.dtype for values in read[:4]] == [values.dtype for values in events[:4]]
    assert len(higgs.load_events(frame, 7).labels) == 7
    train, test = higgs.load_data(frame)
    assert len(train.labels) + len(test.labels) == 20
    with pytest.raises(ValueError, match=r"lacks 1 of the 33 columns needed: Weight"):
        higgs.load_events(frame.drop(columns="Weight"))
    for column, value in {"Label": "x", "PRI_met": np.nan, "Weight": np.inf}.items():
        with pytest.raises(ValueError, match=rf"row 3, column {column}: .*Received: '{value}'"):
            higgs.load_events(
                frame.assign(**{column: [*frame[column][:3], value, *frame[column][4:]]})
            )
    with pytest.raises(ValueError, match="at least one event"):
        higgs.load_events(frame[:0])


@pytest.mark.parametrize(
    "header",
    [
        ("comment", *OPEN_DATA_HEADER, "", "Label"),
        (*KAGGLE_HEADER, ""),
        (*KAGGLE_HEADER, "EventId"),
    ],
)
def test_ignores_further_and_repeated_columns(write, events, header):
    assert_same(higgs.load_events(write(header=header)), events)


def test_further_columns_may_be_empty(write, events):
    header = (*KAGGLE_HEADER, "comment")
    path = write(header=header, edit=lambda lines: [lines[0], *(line[:-1] for line in lines[1:])])
    assert_same(higgs.load_events(path), events)


@pytest.mark.parametrize("num_events", [1, 7, 20, 100])
def test_takes_the_first_events(write, events, num_events):
    read = higgs.load_events(write("events.csv.gz"), num_events=num_events)
    assert_same(read[:4], [values[:num_events] for values in events[:4]])


def test_faults_after_the_first_events_do_not_matter(write):
    path = write(edit=replace(12, "PRI_met", "much"))
    assert len(higgs.load_events(path, num_events=10).labels) == 10


def test_takes_text_paths_a_home_folder_and_a_byte_order_mark(write, events, monkeypatch):
    path = write(encoding="utf-8-sig")
    assert_same(higgs.load_events(str(path)), events)
    monkeypatch.setenv("HOME", str(path.parent))
    assert_same(higgs.load_events("~/events.csv"), events)


def test_skips_empty_lines(write, events):
    assert_same(higgs.load_events(write(edit=lambda lines: [*lines[:3], "", *lines[3:]])), events)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replace(5, "PRI_met", "much"), "line 5, column PRI_met: .*number.*'much'"),
        (replace(5, "DER_pt_h", ""), "line 5, column DER_pt_h: .*number.*''"),
        (replace(5, "PRI_met", "nan"), "line 5, column PRI_met: .*finite.*'nan'"),
        (replace(21, "Weight", "inf"), "line 21, column Weight: .*finite.*'inf'"),
        (replace(3, "PRI_met", "1e90"), "line 3, column PRI_met: .*single precision.*'1e90'"),
        (replace(2, "EventId", "one"), "line 2, column EventId: .*integer.*'one'"),
        (replace(2, "EventId", "1.5"), "line 2, column EventId: .*integer.*'1.5'"),
        (replace(7, "Label", "h"), "line 7, column Label: .*'s'.*'b'.*'h'"),
        (replace(7, "Label", "1"), "line 7, column Label: .*'s'.*'b'.*'1'"),
        (replace(7, "Label", ""), "line 7, column Label: .*'s'.*'b'.*''"),
        (replace(9, "PRI_met", "1,2"), "line 9: 36 values for the 35 columns"),
        (lambda lines: [*lines[:-1], lines[-1][:60]], r"line 21: \d+ values.*35.*cut off"),
        (lambda lines: [*lines[:-1], lines[-1][:-4]], "line 21: 34 values.*35.*cut off"),
        (lambda lines: [*lines[:3], "text", *lines[4:]], "line 4: 1 values.*35.*cut off"),
        (lambda lines: lines[:1], "header, but no events"),
        (lambda lines: lines[1:], "lacks 33 of the 33 columns needed: EventId, DER_mass_MMC"),
        (lambda lines: [], "lacks 33 .* it names 0: none"),
    ],
)
def test_names_the_fault_and_its_place(write, suffix, edit, message):
    path = write(f"damaged.{suffix}", edit=edit)
    with pytest.raises(ValueError, match=f"damaged.{suffix}.*{message}"):
        higgs.load_events(path)


@pytest.mark.parametrize("column", ["EventId", "DER_mass_MMC", "Weight"])
@pytest.mark.parametrize("text", ["1_0", "١٢", "True", str(2**63), "0x10", ""])
def test_names_the_place_of_what_is_no_number(write, column, text):
    if column != "EventId" and text == str(2**63):
        pytest.skip("It is a number.")

    def edit(lines):
        place = lines[0].split(",").index(column)
        rows = [line.split(",") for line in lines[1:]]
        for row in rows:
            row[place] = text
        return [lines[0], *map(",".join, rows)]

    with pytest.raises(ValueError, match=rf"line 2, column {column}: .*Received: '{text}'"):
        higgs.load_events(write(edit=edit))
    frame = pandas.DataFrame(
        [line.split(",") for line in edit(write().read_text().split("\n")[:-1])[1:]],
        columns=OPEN_DATA_HEADER,
    )
    numbers = [name for name in OPEN_DATA_HEADER if name not in ("Label", "KaggleSet", column)]
    frame[numbers] = frame[numbers].astype("float64")
    frame["EventId"] = frame["EventId"].astype("int64" if column != "EventId" else object)
    if text in ("True", str(2**63)):
        frame[column] = {"True": True, str(2**63): np.uint64(2**63)}[text]
    with pytest.raises(ValueError, match=rf"row 0, column {column}: .*Received: '{text}'"):
        higgs.load_events(frame)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_files_that_unpack_to_far_more(tmp_path, compress):
    path = tmp_path / "events.csv"
    path.write_bytes(compress(b"0" * (1 << 27)))
    with pytest.raises(ValueError, match=r"events.csv is not a text file in CSV format"):
        higgs.load_events(path)
    path.write_bytes(compress(",".join(KAGGLE_HEADER).encode() + b"\n" + b"0" * (1 << 27)))
    with pytest.raises(ValueError, match=r"events.csv.*more than 64 times as large as the file"):
        higgs.load_events(path)


def test_lists_missing_columns(write):
    header = [name for name in KAGGLE_HEADER if name not in ("Weight", "PRI_met", "Label")]
    with pytest.raises(
        ValueError, match="lacks 3 of the 33 columns needed: PRI_met, Weight, Label"
    ):
        higgs.load_events(write(header=header))


def test_cut_off_gzip_file(write):
    path = write("events.csv.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"events.csv.gz is cut off"):
        higgs.load_events(path)


def test_damaged_gzip_file(write):
    path = write("events.csv.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"events.csv.gz"):
        higgs.load_events(path)


def test_gzip_file_by_name_only(write):
    path = write("events.csv")
    path = path.rename(path.with_name("events.csv.gz"))
    with pytest.raises(ValueError, match=r"not a sound gzip file.*rename"):
        higgs.load_events(path)


def test_binary_file(write):
    path = write("events.csv")
    path.write_bytes(b"\x89PNG\r\n" + bytes(range(256)))
    with pytest.raises(ValueError, match=r"events.csv is not a text file"):
        higgs.load_events(path)


@pytest.mark.parametrize("source", ["simulate", "ATLAS", "nowhere/events.csv", "."])
def test_unknown_source(source):
    with pytest.raises(FileNotFoundError, match=f"'simulated', 'atlas' or the path.*{source!r}"):
        higgs.load_events(source)


def test_reads_the_real_events(atlas_csv):
    events = higgs.load_events(atlas_csv)
    assert events.features.shape == (18_000, 30)
    assert events.event_ids[[0, -1]].tolist() == [100_000, 117_999]
    assert events.labels.mean() == pytest.approx(0.3409, abs=1e-4)
    assert events.features[0, :3] == pytest.approx([138.47, 51.655, 97.827])
    assert events.weights[0] == pytest.approx(0.00081448039868)


def test_without_pandas_says_what_to_install(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "keras-extras\[data\]"'):
        higgs.load_events(write())
