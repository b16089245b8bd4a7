"""Kills searches over several processes, and signals the process that runs them.

    python tests/chaos_searches.py --kills 10

runs searches with `run_workers`, of a hypermodel of the package and of a plain function, and kills
(`kill -9`) a worker, the chief, or all processes at once at random moments, half of them within
milliseconds of a change on the disk. It sends SIGTERM, SIGHUP and SIGKILL to the process that
called `run_workers`, and counts what outlives it. The same call is made until it ends. Then each
trial must be finished with its own score, and none that was finished may have been run again.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import searching
from chaos_support import begun_trials, command_line, finished_trials, print_row

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["searching", "keras_extras.tuners"])
KINDS = ("ours", "plain")
# Whom to kill; for a parent, how.
WAYS = ("worker", "chief", "group", "SIGTERM", "SIGHUP", "SIGKILL")
TRIALS = 20
# Who is left after so many seconds is an orphan.
_GRACE = 10.0
_PROGRAM = "worker_program.py"
# Libraries that Keras imports if they are there, at the start of each process.
_LIGHT = 'import sys\nsys.modules.update(dict.fromkeys(("matplotlib", "pandas", "sklearn")))\n'


class SearchChaos:
    """Kills one search after the other, and counts.

    Args:
        kind: One of `KINDS`, the hypermodel.
        way: One of `WAYS`.
        folder: Where to search.
        rng: A `random.Random`.

    Attributes:
        kills: How many kills there were.
        orphans: How many processes outlived the one that called `run_workers`.
        faults: What was wrong in the end, in words.
    """

    def __init__(self, kind, way, folder, rng):
        self.kind, self.way = kind, way
        self.kills, self.orphans, self.faults = 0, 0, []
        self._folder, self._rng = Path(folder), rng

    def kill(self, times):
        """Kills that many times, and lets the last search go on to its end."""
        while self.kills < times:
            folder = Path(tempfile.mkdtemp(dir=self._folder, prefix=f"{self.kind}_{self.way}_"))
            finished = []
            while not self._call(folder, times, finished):
                pass
            self._check(folder, finished)

    def _call(self, folder, times, finished):
        """Calls once; returns whether that came to its end."""
        finished.append((finished_trials(folder), len(begun_trials(folder))))
        parent = _processes.Process(target=searching.call, args=(folder, self.kind, TRIALS))
        parent.start()
        crew = {}
        while self.kills < times and self._is_moment(folder, parent):
            finished.append((finished_trials(folder), len(begun_trials(folder))))
            crew = members(parent.pid)
            if not self._strike(parent.pid, crew):
                break
            self.kills += 1
            if self.way != "worker":
                break
        self._count_orphans(parent, crew)
        parent.join(300)
        if parent.exitcode is None or parent.exitcode == searching.UNEXPECTED:
            parent.kill()
            print((folder / "call.log").read_text()[-3000:])
            raise RuntimeError(f"{self.way} of {self.kind}: {parent.exitcode} in {folder}")
        self.faults += half_files(folder)
        return parent.exitcode == 0

    def _is_moment(self, folder, parent):
        """Waits for trials to be run, and some time more; returns whether they still are."""
        begun = len(begun_trials(folder))
        while parent.is_alive() and len(begun_trials(folder)) == begun:
            time.sleep(0.02)
        if self._rng.random() < 0.5:
            parent.join(self._rng.uniform(0.0, 3.0))
        else:
            for _ in range(self._rng.randint(1, 12)):
                before = listing(folder / "search")
                while listing(folder / "search") == before and parent.is_alive():
                    time.sleep(0.0005)
        return parent.is_alive()

    def _strike(self, parent, crew):
        """Kills; returns whether there was somebody."""
        victims = [pid for pid, name in crew.items() if name.startswith(self.way)]
        if self.way == "worker":
            victims = self._rng.sample(victims, min(1, len(victims)))
        elif self.way == "group":
            victims = self._rng.sample([parent, *crew], 1 + len(crew))
        elif self.way != "chief":
            victims = [parent]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, self.way, signal.SIGKILL))
        return bool(victims)

    def _count_orphans(self, parent, crew):
        """What is left of the processes of a call whose parent was killed."""
        parent.join(0.5)
        if parent.exitcode is not None and parent.exitcode < 0:
            end = time.monotonic() + _GRACE
            while set(members(parent.pid)) & set(crew) and time.monotonic() < end:
                time.sleep(0.05)
            left = set(members(parent.pid)) & set(crew)
            self.orphans += len(left)
            for pid in left:
                os.kill(pid, signal.SIGKILL)

    def _check(self, folder, finished):
        expected = [f"{number:02}" for number in range(TRIALS)]
        if searching.scores(folder, self.kind, TRIALS) != dict.fromkeys(expected, 0.0):
            self.faults.append(f"scores {searching.scores(folder, self.kind, TRIALS)} in {folder}")
        oracle = json.loads((folder / "search/oracle.json").read_text())
        for order in ("start_order", "end_order"):
            if sorted(oracle[order]) != expected:
                self.faults.append(f"{order} is {oracle[order]} in {folder}")
        for trials, begun in finished:
            for trial in trials & set(begun_trials(folder)[begun:]):
                self.faults.append(f"trial {trial} was run again in {folder}")


def half_files(folder):
    """Files of state that nobody can read."""
    found = []
    for path in (Path(folder) / "search").rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            if ".part" not in path.name:
                found.append(f"half of {path}")
    return found


def listing(folder):
    """What there is, and of what size; changes while it is looked at, too."""
    found = set()
    for parent, _, files in os.walk(folder):
        for path in (Path(parent, name) for name in files):
            with contextlib.suppress(OSError):
                found.add((path, path.stat().st_size))
    return found


def members(parent):
    """From process ids to names, of what `run_workers` of that process started and still runs."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in table.splitlines():
        pid, state, arguments = line.split(None, 2)
        _, _, rest = arguments.partition(f"{_PROGRAM} {parent} ")
        if rest and not state.startswith("Z"):
            found[int(pid)] = rest.split()[0]
    return found


def main():
    parser = command_line(__doc__, "row")
    parser.add_argument("--kind", choices=KINDS, help="one of the hypermodels")
    parser.add_argument("--way", choices=WAYS, help="one of the ways to kill")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    wrong = 0
    print("| hypermodel | killed | kills | faults | orphans | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_LIGHT)
        paths = [folder, str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        for kind in [options.kind] if options.kind else KINDS:
            for way in [options.way] if options.way else WAYS:
                began = time.monotonic()
                chaos = SearchChaos(kind, way, folder, rng)
                chaos.kill(options.kills)
                wrong += len(chaos.faults) + chaos.orphans
                counts = chaos.kills, len(chaos.faults), chaos.orphans
                print_row((kind, way, *counts), began, chaos.faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
