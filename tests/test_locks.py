"""Locks of files and folders, which die with their holder."""

import os
import subprocess
import sys
import time

from keras_extras._core.locks import ProcessLock, lock_folder, release_folder

_HOLD = """
import sys, time
sys.path.insert(0, {root!r})
from keras_extras._core.locks import ProcessLock
print(ProcessLock({path!r}).acquire(), flush=True)
time.sleep(60)
"""


def hold(path):
    """A process that holds the lock."""
    program = _HOLD.format(root=sys.path[0], path=str(path))
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    return holder


def test_one_holder_in_a_process(tmp_path):
    path = tmp_path / "lock"
    with ProcessLock(path) as first, ProcessLock(path) as second:
        assert first.acquire()
        assert not second.acquire()
        first.release()
        first.release()
        assert second.acquire()
    assert ProcessLock(path).acquire()


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    holder = hold(path)
    lock = ProcessLock(path)
    assert not lock.acquire()
    assert not lock.acquire(), "to ask does not free the lock of the other process"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    began = time.monotonic()
    assert lock.acquire(patience=10.0)
    assert time.monotonic() - began < 5.0
    lock.release()


def test_a_folder_is_locked_for_other_processes(tmp_path):
    """Also after a fork, and until the process ends, however it does."""
    script = (
        "import sys, os; from keras_extras._core.locks import lock_folder, release_folder\n"
        "try: lock_folder(sys.argv[1], 'backup_dir')\n"
        "except RuntimeError as error: print(error)\n"
        "else: print('locked', flush=True); os.kill(os.getpid(), 9)\n"
    )

    def other():
        command = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    lock_folder(tmp_path, "backup_dir")
    lock_folder(tmp_path, "backup_dir")  # the same process, after an interruption
    assert "backup_dir` must be a folder that no other process works in" in other()
    child = os.fork()
    if child == 0:
        os._exit(0 if other().startswith("`backup_dir") else 1)
    assert os.waitpid(child, 0)[1] == 0
    release_folder(tmp_path)
    assert other() == "locked\n"
    assert other() == "locked\n"
    assert list(tmp_path.iterdir()) == []
