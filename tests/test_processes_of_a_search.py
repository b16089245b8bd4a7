"""Processes of `run_workers`: they follow who started them, and are watched for how they end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_extras._core.locks import ProcessLock
from keras_extras.tuners import chief, member, run_workers, worker_program

run = sys.modules[run_workers.__module__]

# Starts two processes, without any library, and waits.
_PARENT = """
import importlib.util, os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored under `nohup`.
path, script, folder = sys.argv[1:]
spec = importlib.util.spec_from_file_location("member", path)
member = importlib.util.module_from_spec(spec)
spec.loader.exec_module(member)
names = ["worker0", "worker1"]
crew = [
    member.Member(n, names, script, (folder,), {"KERAS_BACKEND": "jax"}, Path(folder, n + ".log"))
    for n in names
]
print(*(each._process.pid for each in crew), flush=True)
if os.fork() == 0:
    time.sleep(20)  # It has the other ends of their pipes.
time.sleep(300)
"""

_TARGET = """
import json, subprocess, sys, os, time
from pathlib import Path
import keras
child = subprocess.Popen(["sleep", "300"])
found = {"child": child.pid, "backend": keras.backend.backend(), "stdin": sys.stdin.read()}
path = Path(sys.argv[1], f"{os.getpid()}.json")
path.with_suffix(".part").write_text(json.dumps(found))
path.with_suffix(".part").rename(path)
time.sleep(300)
"""


def lives(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def parent(tmp_path):
    """A process that has started two others, and their numbers."""
    script = tmp_path / "target.py"
    script.write_text(_TARGET)
    command = [sys.executable, "-c", _PARENT, member.__file__, str(script), str(tmp_path)]
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    pids = [int(word) for word in process.stdout.readline().split()]
    yield process, pids
    process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_processes_follow_their_parent_while_they_import(parent, number):
    process, pids = parent
    assert len(pids) == 2
    assert all(map(lives, pids))
    process.send_signal(number)
    assert wait_for(lambda: not any(map(lives, pids)), 15)


def test_processes_follow_their_parent_with_what_they_started(parent, tmp_path):
    process, pids = parent
    files = [tmp_path / f"{pid}.json" for pid in pids]
    assert wait_for(lambda: all(file.exists() for file in files), 200)
    found = [json.loads(file.read_text()) for file in files]
    assert [each["backend"] for each in found] == ["jax", "jax"]
    assert [each["stdin"] for each in found] == ["", ""]
    everyone = pids + [each["child"] for each in found]
    process.kill()
    assert wait_for(lambda: not any(map(lives, everyone)), 15)


def test_a_second_call_is_refused_while_the_first_lives(tmp_path, monkeypatch):
    log = tmp_path / "chief.log"
    log.write_text("of the first")
    with ProcessLock(tmp_path / ".lock") as lock:
        assert lock.acquire()
        with pytest.raises(RuntimeError, match="Another `run_workers` writes its logs to"):
            run_workers(time.sleep, args=(1,), log_dir=tmp_path)
    assert log.read_text() == "of the first"
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(RuntimeError, match="in a process of a search"):
        run_workers(time.sleep, args=(1,), log_dir=tmp_path)


def test_what_cannot_reach_other_processes(tmp_path):
    with pytest.raises(TypeError, match=r"`args` what can be pickled. Received: args="):
        run_workers(time.sleep, args=(lambda: None,), log_dir=tmp_path)
    with pytest.raises(TypeError, match="dict from strings to strings"):
        run_workers(time.sleep, workers=1, environments=[{"N": 1}], log_dir=tmp_path)


class Fake:
    """A process that ends with one code after the other, each time when it was looked at."""

    def __init__(self, name, *codes):
        self.name, self.restarts, self.told = name, 0, False
        self._codes = list(codes)

    @property
    def exit_code(self):
        return self._codes.pop(0) if len(self._codes) > 1 else self._codes[0]

    def restart(self):
        self.restarts += 1

    def tell_end(self):
        self.told = True

    def error(self, why=""):
        return RuntimeError(f"{self.name} has died{why}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(run, "_CHIEF_SECONDS", 0.05)


def wait(chief_codes, *crew, restarts=3, deadline=None):
    leader = Fake("chief", *chief_codes)
    run._wait_for_crew(leader, crew, restarts, deadline)
    run._wait_for_chief(leader, deadline)
    return leader


def test_workers_that_die_are_started_again():
    worker = Fake("worker0", None, -9, None, 1, None, 0)
    assert wait([None] * 20 + [0], worker).told
    assert worker.restarts == 2


def test_a_worker_that_dies_when_all_is_over_is_no_fault():
    for code in (-9, worker_program.NO_CHIEF):
        wait([None, 0], Fake("worker0", None, None, code), Fake("worker1", 0))
    with pytest.raises(RuntimeError, match="worker0 has died"):
        wait([None, 0], Fake("worker0", None, None, 1))


def test_the_chief_is_named_when_its_workers_die_with_it():
    with pytest.raises(RuntimeError, match="chief has died"):
        wait([-9], Fake("worker0", 75), Fake("worker1", 75))


def test_a_chief_serves_a_worker_that_was_late():
    leader = Fake("chief", 0)
    leader.restart = lambda: setattr(leader, "_codes", [None])
    worker = Fake("worker0", *[None] * 60, 0)
    run._wait_for_crew(leader, [worker], 3, None)
    assert leader.exit_code is None
    with pytest.raises(RuntimeError, match="chief has died, before its workers"):
        wait([0], Fake("worker0", None))


def test_a_trial_that_was_left_is_no_success(monkeypatch, capsys):
    with pytest.raises(RuntimeError, match="chief has died"):
        wait([None, None, worker_program.UNFINISHED], Fake("worker0", 0))
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    worker_program._end_if_unfinished()
    assert codes == []
    monkeypatch.setitem(chief._handed, "worker0", "7")
    worker_program._end_if_unfinished()
    assert codes == [worker_program.UNFINISHED]
    assert capsys.readouterr().out == "worker0 ended and left trial 7\n"


def test_the_time_limit_holds_for_processes_that_do_not_end(tmp_path):
    with pytest.raises(TimeoutError, match="longer than `timeout`"):
        wait([None], Fake("worker0", None), deadline=time.monotonic() + 0.02)
    # The chief goes on after the last worker, but no longer than that.
    wait([None], Fake("worker0", 0), deadline=time.monotonic() + 0.02)
    script = tmp_path / "script.py"
    script.write_text("import time\ntime.sleep(300)\n")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run_workers(script, workers=1, timeout=0.5, log_dir=tmp_path)
    assert time.monotonic() - began < 30
    assert Path(tmp_path, "chief.log").exists()
