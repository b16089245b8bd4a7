"""Locks of files and folders, which die with their holder."""

import os
import signal
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


_TAKE = """
import os, sys
from keras_extras._core.locks import lock_folder
try:
    lock_folder(sys.argv[1], "backup_dir")
except RuntimeError as error:
    print(error)
else:
    print("locked", flush=True)
    os.kill(os.getpid(), 9)
"""

# In another process: Python and JAX warn if a process with several threads forks.
_DIE_BEFORE_THE_CHILD = """
import os, sys, time
from keras_extras._core.locks import lock_folder
lock_folder(sys.argv[1], "backup_dir")
child = os.fork()
if child == 0:
    os.closerange(1, 3)  # Else the test waits for it.
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""


def run(program, *arguments):
    """Returns the output of a program."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_a_folder_is_locked_for_other_processes(tmp_path):
    """Until the process ends, however it does."""
    lock_folder(tmp_path, "backup_dir")
    lock_folder(tmp_path, "backup_dir")  # the same process, after an interruption
    assert "backup_dir` must be a folder that no other process works in" in run(_TAKE, tmp_path)
    release_folder(tmp_path)
    assert run(_TAKE, tmp_path) == "locked\n"
    assert run(_TAKE, tmp_path) == "locked\n"
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_keep_the_folder(tmp_path):
    child = int(run(_DIE_BEFORE_THE_CHILD, tmp_path))
    try:
        assert run(_TAKE, tmp_path) == "locked\n"
    finally:
        os.kill(child, signal.SIGKILL)
