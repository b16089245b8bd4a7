"""run_workers: one search over several processes, which outlives those that die."""

import os
import pickle
import runpy
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._core.checks import check_integer, check_number
from keras_extras.tuners.reload_hook import install_reload_hook

_POLL_SECONDS = 0.2
# keras-tuner's chief looks every 20 seconds whether it may end.
_CHIEF_SECONDS = 45
_CHIEF = "chief"
_LAST_PORT = 65535


def run_workers(
    target: str | os.PathLike | Callable[..., Any],
    workers: int = 2,
    args: Sequence[Any] = (),
    environments: Sequence[Mapping[str, str]] | None = None,
    port: int | None = None,
    max_restarts: int = 3,
    timeout: float | None = None,
    log_dir: str | os.PathLike = "worker_logs",
) -> dict[str, int]:
    """Runs a keras-tuner search in several processes of this machine.

    `target` makes a tuner and calls its `search`, as it would in one process; keras-tuner's
    distributed mode does the rest: one process, the chief, hands out the trials, and each worker
    runs one after the other. All get the same `target`, so the tuner's `directory` must be the
    same, too. After `search` a worker's `tuner.oracle` is a client without `trials`: read results
    here, when all have ended, from a tuner made anew with the same directory and project name.

    A worker that dies, by `kill -9` or for want of memory, is started again and gets the trial that
    it had. If it dies too often the others go on, and then an error tells which one and why. If the
    chief dies all are ended; what was finished is in the tuner's directory, and the same call takes
    the search up again. keras-tuner's chief waits for workers that never come back; here it is
    ended when no worker is left.

    As with all of Python's processes, the script that calls this needs
    `if __name__ == "__main__":`, and what a function `target` does must not be in it.

    Args:
        target: Path of a script, or a function that can be pickled, of a module.
        workers: Integer, how many processes run trials. Defaults to `2`.
        args: Arguments of the function, or of the script's command line. Defaults to `()`.
        environments: For each worker a dict of environment variables, such as
            `{"CUDA_VISIBLE_DEVICES": "1"}`. Defaults to `None`.
        port: Integer, the port of the chief on this machine; `None` for one that is free. Defaults
            to `None`.
        max_restarts: Integer, how often to start each worker again. Defaults to `3`.
        timeout: Seconds after which all processes are ended; `None` for no limit. Defaults to
            `None`.
        log_dir: Folder for what each process prints, `chief.log` and `worker0.log` and so on.
            Defaults to `"worker_logs"`.

    Returns:
        Dict from the name of each worker to how often it was started again.

    Raises:
        FileNotFoundError: If there is no such script.
        RuntimeError: If the chief died, or a worker too often, with the end of its log.
        TimeoutError: If the time is over.
        TypeError: If other processes cannot import the function.
        ValueError: If an argument is out of range, or the port is in use.

    Example:

    ```py
    import keras_extras
    import keras_tuner


    def search():
        tuner = keras_tuner.RandomSearch(
            keras_extras.tuners.TabularHyperModel(30, metrics=["accuracy"]),
            "val_accuracy",
            max_trials=12,
            directory="outputs/search",
        )
        x, y, x_val, y_val = ...
        tuner.search(x, y, validation_data=(x_val, y_val))


    if __name__ == "__main__":
        keras_extras.tuners.run_workers(search, workers=2)
    ```
    """
    workers = check_integer("workers", workers)
    max_restarts = check_integer("max_restarts", max_restarts, 0)
    if timeout is not None:
        timeout = check_number("timeout", timeout, above=0.0)
    if port is not None and check_integer("port", port) > _LAST_PORT:
        raise ValueError(f"`port` must be at most {_LAST_PORT}. Received: port={port}")
    if callable(target):
        _check_importable(target)
    elif not isinstance(target, (str, os.PathLike)):
        raise TypeError(
            "`target` must be a function or the path of a script. "
            f"Received: a value of type {type(target).__name__}"
        )
    elif not Path(target).is_file():
        raise FileNotFoundError(f"`target` must be a function or a script. Received: {target}")
    if environments is None:
        environments = [{}] * workers
    if len(environments) != workers:
        raise ValueError(
            f"`environments` must have an entry for each of {workers} workers. "
            f"Received: {len(environments)}"
        )
    address = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(_free_port(port)),
    }
    folder = Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)

    def member(name, environment):
        environment = {**environment, **address, "KERASTUNER_TUNER_ID": name}
        return _Member(name, target, tuple(args), environment, folder / f"{name}.log")

    chief = member(_CHIEF, {})
    crew = [member(f"worker{i}", environment) for i, environment in enumerate(environments)]
    try:
        _supervise(chief, crew, max_restarts, timeout)
    finally:
        for each in (chief, *crew):
            each.end()
    return {each.name: each.restarts for each in crew}


def _check_importable(target):
    try:
        pickle.dumps(target)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise TypeError(
            "`target` must be a function that other processes can import by its name, one on the "
            f"top level of a module. Received: target={target!r}"
        ) from error


class _Member:
    """A process of the search, started again when it dies."""

    def __init__(self, name, target, args, environment, log):
        self.name = name
        self.log = log
        self.restarts = 0
        self._arguments = target, args, environment, log
        log.write_text("")
        self._start()

    def _start(self):
        self._process = get_context("spawn").Process(target=_work, args=self._arguments)
        self._process.start()

    @property
    def exit_code(self):
        return self._process.exitcode

    def restart(self):
        self.restarts += 1
        self._start()

    def end(self):
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def error(self):
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return RuntimeError(
            f"{self.name} ended with code {self.exit_code} after {self.restarts} restarts. What is "
            f"finished is saved; the same call takes the search up again. The end of {self.log}:\n"
            f"{tail}"
        )


def _supervise(chief, crew, max_restarts, timeout):
    """Waits for all to end, and starts again workers that died."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while any(worker.exit_code is None for worker in crew):
        time.sleep(_POLL_SECONDS)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(
                f"The search took longer than timeout={timeout:g} seconds; its processes are "
                "ended. What is finished is saved; the same call takes the search up again."
            )
        if chief.exit_code:
            raise chief.error()
        for worker in crew:
            if worker.exit_code and worker.restarts < max_restarts:
                worker.restart()
    for worker in crew:
        if worker.exit_code:
            raise worker.error()
    patience = time.monotonic() + _CHIEF_SECONDS
    while chief.exit_code is None and time.monotonic() < patience:
        time.sleep(_POLL_SECONDS)


def _work(target, args, environment, log):
    """What a process does; all that it prints goes to the log."""
    os.environ.update(environment)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    install_reload_hook(BaseTuner)
    if callable(target):
        target(*args)
        return
    script = str(target)
    sys.argv = [script, *map(str, args)]
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")


def _free_port(port):
    """A port of this machine that nothing listens to; gRPC would share one without a word."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise ValueError(
                f"`port` must be free. Received: port={port}, which is in use; leave it out to "
                "get a free one"
            ) from error
        return probe.getsockname()[1]
