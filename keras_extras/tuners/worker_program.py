"""The program of each process of `run_workers`, which runs this file by its path.

It watches for the death of the process that started it before it imports anything, and follows it
with all processes that it has started itself.
"""

import ctypes
import multiprocessing.spawn
import os
import pickle
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

_POLL_SECONDS = 1.0
# Exit codes: of a chief whose workers left a trial, and of a worker whose chief was gone.
UNFINISHED, NO_CHIEF = 2, 75


def main() -> None:
    _set_death_signal(signal.SIGKILL)
    parent, name, *crew = sys.argv[1:]
    del sys.path[0]  # The folder of this file.
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    with open(lifeline, "rb", closefd=False, buffering=0) as stream:
        preparation, task = pickle.loads(_read(stream))
    threading.Thread(target=_watch_pipe, args=(lifeline,), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    multiprocessing.spawn.prepare(preparation)  # Paths, and the script of the parent.
    target, args = pickle.loads(task)

    from keras_tuner.engine.base_tuner import BaseTuner

    from keras_extras.tuners.chief import know_workers
    from keras_extras.tuners.reload_hook import install_reload_hook

    install_reload_hook(BaseTuner)
    if name == "chief":
        know_workers(crew)
    # From here on `_follow` does it, which ends what the target has started, too.
    _set_death_signal(0)
    try:
        _run(target, args)
    except Exception as error:
        if _lost_chief(error):
            traceback.print_exc()
            sys.exit(NO_CHIEF)
        raise


def _set_death_signal(number):
    """Has Linux send a signal when the parent dies: threads wait while libraries are loaded."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(number))


def _run(target, args):
    if callable(target):
        target(*args)
        return
    script = str(target)
    sys.argv = [script, *map(str, args)]
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")


def _lost_chief(error):
    """Whether it is that of a chief that has ended before its answer was sent."""
    import grpc  # type: ignore[import-untyped]

    gone = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return isinstance(error, grpc.RpcError) and getattr(error, "code", lambda: None)() in gone


def _read(stream):
    """The first message of the parent, which its length precedes."""
    size = int.from_bytes(_read_exactly(stream, 8), "big")
    return _read_exactly(stream, size)


def _read_exactly(stream, size):
    parts = bytearray()
    while len(parts) < size:
        part = stream.read(size - len(parts))
        if not part:
            _follow()
        parts += part
    return bytes(parts)


def _watch_pipe(lifeline):
    while os.read(lifeline, 1):
        _end_if_unfinished()
    _follow()


def _watch_parent(parent):
    """Where a child of the parent keeps the other end of the pipe open."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    _follow()


def _follow():
    """Ends this process and those that it has started."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_if_unfinished():
    """Ends a chief all workers of which have ended, if they have left a trial."""
    chief = sys.modules.get("keras_extras.tuners.chief")
    trials = chief.unfinished_trials() if chief is not None else {}
    if trials:
        print(*(f"{name} ended and left trial {trial}" for name, trial in trials.items()), sep="\n")
        os._exit(UNFINISHED)


if __name__ == "__main__":
    main()
