"""What `import keras_extras` adds to `import keras`.

Each time is taken in a process of its own, in which Keras has been imported before.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --fast
"""

import argparse
import os
import statistics
import subprocess
import sys

TIMED = "import keras, time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
STATEMENTS = {
    "keras_extras": "import keras_extras",
    "its layers": "import keras_extras.layers",
    "its optimizers": "import keras_extras.optimizers",
}


def seconds(statement: str) -> float:
    """How long a statement takes in a new process."""
    return float(
        subprocess.run(
            [sys.executable, "-c", TIMED.format(statement)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
    )


def main(rounds: int = 10) -> dict[str, float]:
    """Prints and returns the medians, in seconds."""
    medians = {
        name: statistics.median(seconds(statement) for _ in range(rounds))
        for name, statement in STATEMENTS.items()
    }
    print(f"seconds after `import keras`, median of {rounds}")
    for name, median in medians.items():
        print(f"{name:16s}{median:8.4f}")
    return medians


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="processes for each")
    parser.add_argument("--fast", action="store_true", help="one process for each")
    arguments = parser.parse_args()
    main(1 if arguments.fast else arguments.rounds)
