"""A process of a search, started again when it dies."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from keras_extras._seams.interpreter_flags import interpreter_flags

_PROGRAM = Path(__file__).with_name("worker_program.py")


class Member:
    """A process that runs a target, prints to a log, and dies with this one.

    Args:
        name: String, by which keras-tuner knows it.
        crew: The names of all workers.
        target: A function, or the path of a script.
        args: Its arguments.
        environment: Dict of variables, there before the process imports anything.
        log: Path of the file that it prints to, which is emptied.
    """

    def __init__(
        self,
        name: str,
        crew: Sequence[str],
        target: Any,
        args: tuple,
        environment: Mapping[str, str],
        log: Path,
    ):
        self.name = name
        self.log = log
        self.restarts = 0
        # It leads a process group, which `_follow` of the program ends with it.
        program = [str(_PROGRAM), str(os.getpid()), name, *crew]
        self._command = [sys.executable, *interpreter_flags(), *program]
        self._environment = {**os.environ, **environment}
        preparation = spawn.get_preparation_data(name)
        preparation.pop("authkey")
        payload = pickle.dumps((preparation, pickle.dumps((target, args))))
        self._payload = len(payload).to_bytes(8, "big") + payload
        log.write_text("")
        self._start()

    def _start(self):
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._send(self._payload)

    def _send(self, message):
        with contextlib.suppress(BrokenPipeError):  # It has died.
            self._process.stdin.write(message)
            self._process.stdin.flush()

    @property
    def exit_code(self) -> int | None:
        """As of `subprocess.Popen`: `None` while it lives, negative if it was killed."""
        return self._process.poll()

    def restart(self) -> None:
        """Starts it once more."""
        self.kill()
        self.restarts += 1
        self._start()

    def tell_end(self) -> None:
        """Lets a chief know that no worker is left."""
        self._send(b"e")

    def terminate(self) -> None:
        """Asks it to end, if it still lives."""
        if self.exit_code is None:
            self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Waits until it has ended, at most that long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0.0))

    def kill(self) -> None:
        """Ends it, and what it has started and left."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _signal(self, number):
        with contextlib.suppress(OSError):  # No process of the group is left.
            os.killpg(self._process.pid, number)

    def error(self, why: str = "") -> RuntimeError:
        """Returns the error of a process that ended as it should not, with the end of its log."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return RuntimeError(
            f"{self.name} ended with code {self.exit_code} after {self.restarts} restarts{why}. "
            "What is finished is saved; the same call takes the search up again. The end of "
            f"{self.log}:\n{tail}"
        )
