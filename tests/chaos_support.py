"""Command line, table and trials, shared by the scripts that kill."""

import argparse
import contextlib
import json
import time
from pathlib import Path


def command_line(description, rows):
    """A parser of the command line of a script that prints a table.

    Args:
        description: The docstring of the script.
        rows: String, what a row is of.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help=f"of each {rows} (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def print_row(cells, began, faults):
    """Prints a row of the table, with the seconds since `began` last, and the faults below it."""
    cells = [*cells, f"{time.monotonic() - began:.0f}"]
    print(f"| {' | '.join(map(str, cells))} |", *faults, sep="\n", flush=True)


def begun_trials(folder):
    """The trials that were begun, once for each time."""
    path = Path(folder, "begun.txt")
    return path.read_text().split() if path.exists() else []


def finished_trials(folder):
    """The trials of which the disk says that they are finished."""
    finished = set()
    for path in Path(folder, "search").glob("trial_*/trial.json"):
        with contextlib.suppress(ValueError):  # `half_files` reports it
            trial = json.loads(path.read_text())
            if trial["status"] == "COMPLETED":
                finished.add(trial["trial_id"])
    return finished
