"""Kills what runs long, again and again, and compares what comes out with what was left alone.

    python tests/chaos.py --kills 10

starts each of the runs of `chaos_runs.py`, kills it (`kill -9`) at random moments, half of them
within milliseconds of a change on the disk, and starts it again in the same folder until it is
through. Its result must then be the same to the last bit, and at no moment may a file be incomplete
under its own name. Every third of those with a backup folder gets a second process in the same
folder, which must be refused.
"""

import contextlib
import http.server
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
from chaos_runs import FILE, REFUSED, RUNS, work
from chaos_support import begun_trials, command_line, finished_trials, print_row

# A process that imports everything once, and of which those to be killed are forks.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["chaos_runs"])
_PATHS = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))


class _SlowServer(http.server.BaseHTTPRequestHandler):
    """Sends the file in pieces, over about a second."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(FILE)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(FILE), 4096):
                self.wfile.write(FILE[start : start + 4096])
                time.sleep(0.01)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(folder):
    """The server of `download`, whose address is in the folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _SlowServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        (folder / "url.txt").write_text(f"http://127.0.0.1:{server.server_port}/events.csv.gz")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Chaos:
    """Kills one run after the other, and counts.

    Attributes:
        expected: What comes out without kills.
        kills: How many runs were killed.
        differences: What came out otherwise than without kills, or was done twice.
        half_files: Files that were not whole.
        refused: How many second processes were refused.
    """

    def __init__(self, name, folder, rng):
        self.name = name
        self.kills, self.differences, self.half_files, self.refused = 0, [], [], 0
        self._folder, self._rng = Path(folder), rng
        began = time.monotonic()
        self.expected = self._finish(self.new_folder())
        self._duration = time.monotonic() - began

    def kill(self, times):
        """Kills that many runs, and lets the last go on to its end."""
        folder = self.new_folder()
        while times:
            if self._killed(folder):
                times -= 1
                self.kills += 1
                self.half_files += list(half_files(folder))
            else:
                self._compare(folder)
                folder = self.new_folder()
        self._finish(folder)
        self._compare(folder)

    def new_folder(self):
        return Path(tempfile.mkdtemp(dir=self._folder, prefix=self.name))

    def start(self, folder):
        process = _processes.Process(target=work, args=(self.name, folder))
        process.start()
        return process

    def _finish(self, folder):
        process = self.start(folder)
        process.join(300)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError(f"{self.name} ended with code {process.exitcode} in {folder}")
        return read(folder)

    def _killed(self, folder):
        """Whether the run was killed before it was through."""
        finished, begun = finished_trials(folder), len(begun_trials(folder))
        process = self.start(folder)
        if self.kills % 3 == 2 and self.name not in ("search", "download"):
            process = self._with_second(process, folder)
        if self._rng.random() < 0.5:
            process.join(self._rng.uniform(0.0, self._duration))
        else:
            # Some changes from now, and within the time that one takes.
            for _ in range(self._rng.randint(1, 12)):
                before = seen = listing(folder)
                while seen == before and process.is_alive():
                    time.sleep(0.0005)
                    seen = listing(folder)
            time.sleep(self._rng.choice([0.0, self._rng.uniform(0.0, 0.005)]))
        process.kill()
        process.join()
        repeated = finished & set(begun_trials(folder)[begun:])
        self.differences += [f"trial {trial} was run again" for trial in repeated]
        if process.exitcode > 0:
            raise RuntimeError(f"{self.name} ended with code {process.exitcode} in {folder}")
        return process.exitcode != 0

    def _with_second(self, first, folder):
        """Starts a second process, and returns the one of both that is not refused."""
        second = self.start(folder)
        while first.is_alive() and second.is_alive():
            time.sleep(0.001)
        ended, other = (second, first) if first.is_alive() else (first, second)
        ended.join()
        if ended.exitcode == REFUSED:
            self.refused += 1
        elif ended.exitcode != 0:
            raise RuntimeError(f"{self.name} ended with code {ended.exitcode} in {folder}")
        return other

    def _compare(self, folder):
        for number, (one, other) in enumerate(zip(self.expected, read(folder), strict=True)):
            if not np.array_equal(one, other):
                self.differences.append(f"array {number} of {self.name} in {folder}")


def read(folder):
    with np.load(folder / "result.npz") as arrays:
        return list(arrays.values())


def listing(folder):
    """What there is, and of what size; changes while it is looked at, too."""
    found = set()
    # Unlike `rglob`, this goes on where a folder is gone before it is looked into.
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            with contextlib.suppress(OSError):
                found.add((path, path.stat().st_size))
    return found


def half_files(folder):
    """The files that cannot be read.

    Those aside that bear the name of a part, and the weights of a trial of keras-tuner that is not
    finished: nobody reads them, and the trial is run from its start.
    """
    finished = finished_trials(folder)
    for path in folder.rglob("*"):
        is_part = any(".part" in name for name in path.relative_to(folder).parts)
        of_trial = path.parent.name.startswith("trial_") and path.suffix == ".h5"
        is_unread = of_trial and path.parent.name.removeprefix("trial_") not in finished
        if is_part or is_unread or path.is_dir():
            continue
        try:
            if path.suffix == ".npz":
                with np.load(path) as arrays:
                    list(arrays.values())
            elif path.suffix == ".h5":
                with h5py.File(path) as file:
                    file.visititems(lambda _, item: item[()] if hasattr(item, "dtype") else None)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".gz" and path.read_bytes() != FILE:
                yield path
        except Exception as error:
            yield f"{path}: {error}"


def main():
    parser = command_line(__doc__, "run")
    parser.add_argument("--only", choices=RUNS, help="one of the runs")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    faults = 0
    print("| run | kills | refused | differences | half files | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)):
        for name in [options.only] if options.only else RUNS:
            began = time.monotonic()
            chaos = Chaos(name, folder, rng)
            chaos.kill(options.kills)
            found = chaos.differences + chaos.half_files
            faults += len(found)
            counts = chaos.kills, chaos.refused, len(chaos.differences), len(chaos.half_files)
            print_row((name, *counts), began, found)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
