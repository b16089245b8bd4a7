import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import re
import threading
import time

import pytest

from keras_extras._core.locks import ProcessLock
from keras_extras.datasets import higgs
from keras_extras.datasets.higgs import download
from keras_extras.datasets.higgs.download import download_atlas_file

NAME = "atlas-higgs-challenge-2014-v2.csv.gz"
CONTENT = gzip.compress(b"some events\n" * 1000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        folder = self.path.split("/")[1]
        if folder == "absent":
            self.send_error(404)
            return
        self.send_response(200)
        lengths = {"endless": None, "unclear": "abc", "negative": "-5", "huge": str(10**12)}
        if length := lengths.get(folder, str(len(CONTENT))):
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(CONTENT[:-20] if folder == "truncated" else CONTENT)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000 if folder == "endless" else 0):
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = 0
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_downloads_once_and_works_offline_then(server, tmp_path):
    url = f"{server.address}/whole/{NAME}"
    path = download_atlas_file(url, SHA1, cache_dir=tmp_path)
    assert path == tmp_path / "datasets" / NAME
    assert path.read_bytes() == CONTENT
    assert files_below(tmp_path) == [path]
    server.shutdown()
    assert download_atlas_file(url, SHA1, cache_dir=tmp_path) == path
    assert server.requests == 1


def test_replaces_a_damaged_file_in_the_cache(server, tmp_path):
    damaged = tmp_path / "datasets" / NAME
    damaged.parent.mkdir()
    damaged.write_bytes(CONTENT[:100])
    path = download_atlas_file(f"{server.address}/whole/{NAME}", SHA1, cache_dir=tmp_path)
    assert path == damaged
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "folder", ["truncated", "absent", "endless", "unclear", "negative", "huge"]
)
def test_failed_download_leaves_nothing(server, tmp_path, monkeypatch, folder):
    monkeypatch.setattr(download, "_LARGEST", 1 << 20)
    url = f"{server.address}/{folder}/{NAME}"
    with pytest.raises(ConnectionError, match=re.escape(url) + ".*path as `source`.*simulated"):
        download_atlas_file(url, SHA1, cache_dir=tmp_path)
    assert files_below(tmp_path) == []


def test_refused_connection_leaves_nothing(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"Could not download.*path as `source`"):
        download_atlas_file(f"{server.address}/whole/{NAME}", SHA1, cache_dir=tmp_path)
    assert files_below(tmp_path) == []


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    url = f"{server.address}/whole/{NAME}"
    message = f"{re.escape(url)}.*deleted.*{SHA1}, expected {'0' * 40}.*path as `source`"
    with pytest.raises(ValueError, match=message):
        download_atlas_file(url, "0" * 40, cache_dir=tmp_path)
    assert files_below(tmp_path) == []


def test_a_file_in_the_cache_survives_a_failed_download(server, tmp_path):
    cached = tmp_path / "datasets" / NAME
    cached.parent.mkdir()
    cached.write_bytes(b"another version")
    with pytest.raises(ConnectionError):
        download_atlas_file(f"{server.address}/absent/{NAME}", SHA1, cache_dir=tmp_path)
    assert files_below(tmp_path) == [cached]


def test_parts_are_removed_where_nobody_writes_to_them(server, tmp_path, monkeypatch):
    folder = tmp_path / "datasets"
    folder.mkdir()
    left, written, new = (folder / f".{NAME}.{n}.part.csv.gz" for n in range(3))
    for part in (left, written, new):
        part.write_bytes(b"part")
    for part in (left, written):
        os.utime(part, (0, time.time() - 100))
    monkeypatch.setattr(time, "time", functools.partial(lambda stock: stock() + 30, time.time))
    with ProcessLock(written) as lock:
        assert lock.acquire()
        path = download_atlas_file(f"{server.address}/whole/{NAME}", SHA1, cache_dir=tmp_path)
    assert sorted(files_below(tmp_path)) == sorted([path, written, new])


def test_uses_the_cache_folder_of_keras(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = download_atlas_file(f"{server.address}/whole/{NAME}", SHA1)
    assert path == tmp_path / "datasets" / NAME


def test_source_atlas_reads_the_downloaded_file(monkeypatch, tmp_path):
    """With the download replaced by a file that is already there."""
    events = higgs.load_events(num_events=10)
    header = ",".join(("EventId", *higgs.FEATURE_NAMES, "Weight", "Label"))
    rows = [
        ",".join([str(event_id), *map(str, features), str(weight), "sb"[1 - label]])
        for features, label, weight, event_id in zip(*events[:4], strict=True)
    ]
    path = tmp_path / NAME
    path.write_bytes(gzip.compress("\n".join([header, *rows]).encode()))
    monkeypatch.setattr(higgs.loading, "download_atlas_file", lambda: path)
    pytest.importorskip("pandas")
    assert higgs.load_events("atlas", num_events=4).event_ids.tolist() == [0, 1, 2, 3]
