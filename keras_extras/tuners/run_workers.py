"""run_workers: one search over several processes, which outlives those that die."""

import math
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_extras._core.checks import check_integer, check_number
from keras_extras._core.locks import ProcessLock
from keras_extras.tuners import roles
from keras_extras.tuners.member import Member
from keras_extras.tuners.worker_program import NO_CHIEF

_POLL_SECONDS = 0.2
# keras-tuner's chief looks every 20 seconds whether it may end.
_CHIEF_SECONDS = 45
_END_SECONDS = 5
_CHIEF = "chief"
_HOST = "127.0.0.1"
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
    here, when all have ended, from a new tuner with the same directory and project name.

    A worker that dies, by `kill -9` or for want of memory, is started again and gets the trial that
    it had. If it dies too often the others go on, and then an error names it and the reason. If the
    chief dies all are ended; what was finished is in the tuner's directory, and the same call takes
    the search up again. If the process that calls this dies, however, all others and what they have
    started die with it. While a search goes on, another one in the same folder is refused.
    keras-tuner's chief waits for workers that never come back; here it is ended when no worker is
    left, and a trial that is still unfinished then is an error.

    The chief listens on 127.0.0.1, which other machines cannot reach. keras-tuner does not ask who
    connects: other users of the same machine can read the trials and, under the name of a worker,
    report results. Names and trials that are not of this search are refused.

    As with all of Python's processes, the script that calls this needs
    `if __name__ == "__main__":`, and what a function `target` does must not be in it. Linux and
    macOS only.

    Args:
        target: Path of a script, or a function that can be pickled, of a module.
        workers: Integer, how many processes run trials. Defaults to `2`.
        args: Arguments of the function, or of the script's command line. Defaults to `()`.
        environments: For each worker a dict of environment variables, such as
            `{"CUDA_VISIBLE_DEVICES": "1"}` or `{"KERAS_BACKEND": "jax"}`, which are there before it
            imports anything. Defaults to `None`.
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
        RuntimeError: If the chief died, or a worker too often, with the end of its log; if a worker
            left a trial unfinished; or if a search in the same folder, or with the same `log_dir`,
            goes on.
        TimeoutError: If the time is over.
        TypeError: If other processes cannot import the function, `args` cannot be pickled, or
            `environments` are not of strings.
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
    if roles.is_distributed():
        raise RuntimeError(
            "`run_workers` was called in a process of a search. Put the call in a script under "
            '`if __name__ == "__main__":`, and not in what `target` does'
        )
    workers = check_integer("workers", workers)
    max_restarts = check_integer("max_restarts", max_restarts, 0)
    if timeout is not None:
        timeout = check_number("timeout", timeout, above=0.0)
    if port is not None and check_integer("port", port) > _LAST_PORT:
        raise ValueError(f"`port` must be at most {_LAST_PORT}. Received: port={port}")
    _check_target(target, args)
    environments = _check_environments(environments, workers)
    names = [f"worker{i}" for i in range(workers)]
    folder = Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessLock(folder / ".lock") as lock:
        if not lock.acquire():
            raise RuntimeError(
                f"Another `run_workers` writes its logs to {folder} now. Wait for its end, or end "
                "it; for another search choose another `log_dir`"
            )
        address = {
            "KERASTUNER_ORACLE_IP": _HOST,
            "KERASTUNER_ORACLE_PORT": str(_free_port(port)),
        }
        deadline = None if timeout is None else time.monotonic() + timeout
        members: list[Member] = []
        try:
            for name, environment in zip([_CHIEF, *names], [{}, *environments]):
                environment = {**environment, **address, "KERASTUNER_TUNER_ID": name}
                log = folder / f"{name}.log"
                members.append(Member(name, names, target, tuple(args), environment, log))
            chief, *crew = members
            _wait_for_crew(chief, crew, max_restarts, deadline)
            _wait_for_chief(chief, deadline)
        finally:
            _end(members)
    return {worker.name: worker.restarts for worker in crew}


def _check_target(target, args):
    if not callable(target):
        if not isinstance(target, (str, os.PathLike)):
            raise TypeError(
                "`target` must be a function or the path of a script. "
                f"Received: a value of type {type(target).__name__}"
            )
        if not Path(target).is_file():
            raise FileNotFoundError(f"`target` must be a function or a script. Received: {target}")
    for name, value in {"target": target, "args": tuple(args)}.items():
        try:
            pickle.dumps(value)
        except (AttributeError, TypeError, RuntimeError, pickle.PicklingError) as error:
            raise TypeError(
                "`target` must be a function that other processes can import by its name, one on "
                "the top level of a module, and `args` what can be pickled. "
                f"Received: {name}={value!r}"
            ) from error


def _check_environments(environments, workers):
    if environments is None:
        return [{}] * workers
    if len(environments) != workers:
        raise ValueError(
            f"`environments` must have an entry for each of {workers} workers. "
            f"Received: {len(environments)}"
        )
    for environment in environments:
        if not isinstance(environment, Mapping) or not all(
            isinstance(part, str) for item in environment.items() for part in item
        ):
            raise TypeError(
                "Each of `environments` must be a dict from strings to strings. "
                f"Received: {environment!r}"
            )
    return environments


def _wait_for_crew(chief, crew, max_restarts, deadline):
    """Waits for all workers to end, and starts those again that died."""
    ended = math.inf  # When the chief had ended.
    while True:
        codes = [worker.exit_code for worker in crew]
        # Asked for after the workers, which die of the death of their chief.
        code_of_chief = chief.exit_code
        if code_of_chief:
            raise chief.error()
        is_over = code_of_chief == 0
        dead = [
            worker
            for worker, code in zip(crew, codes)
            if code and not is_over and worker.restarts < max_restarts
        ]
        for worker in dead:
            worker.restart()
        if not dead and None not in codes:
            break
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(
                "The search took longer than `timeout`; its processes are ended. What is finished "
                "is saved; the same call takes the search up again."
            )
        ended = min(ended, time.monotonic()) if is_over else math.inf
        if time.monotonic() > ended + _CHIEF_SECONDS:
            # All trials are finished, but a worker that was late waits for one.
            if chief.restarts >= max(max_restarts, 1):
                raise chief.error(", before its workers")
            chief.restart()
        time.sleep(_POLL_SECONDS)
    for worker, code in zip(crew, codes):
        # Who was killed when all was over, or had no answer any more, has left nothing.
        if code and not (is_over and (code < 0 or code == NO_CHIEF)):
            raise worker.error()


def _wait_for_chief(chief, deadline):
    """Waits for a chief without workers to end."""
    chief.tell_end()
    patience = time.monotonic() + _CHIEF_SECONDS
    patience = patience if deadline is None else min(patience, deadline)
    while chief.exit_code is None and time.monotonic() < patience:
        time.sleep(_POLL_SECONDS)
    if chief.exit_code:
        raise chief.error()


def _end(members):
    for member in members:
        member.terminate()
    patience = time.monotonic() + _END_SECONDS
    for member in members:
        member.wait(patience - time.monotonic())
    for member in members:
        member.kill()


def _free_port(port):
    """A port of this machine that nothing listens to; gRPC would share one without a word."""
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port or 0))
        except OSError as error:
            raise ValueError(
                f"`port` must be free. Received: port={port}, which is in use; leave it out to "
                "get a free one"
            ) from error
        return probe.getsockname()[1]
