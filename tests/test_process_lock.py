"""A lock that dies with its holder."""

import subprocess
import sys
import time

from keras_extras._core.process_lock import ProcessLock

_HOLD = """
import sys, time
sys.path.insert(0, {root!r})
from keras_extras._core.process_lock import ProcessLock
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
