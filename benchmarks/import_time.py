"""What `import keras_extras` adds to `import keras`.

Each import is timed in a process of its own, in turn, so that the machine's other work falls on all
alike; the first round fills the file cache and does not count.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --fast
"""

import argparse
import os
import statistics
import subprocess
import sys

TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
EACH = {
    "keras": "import keras",
    "keras and keras_extras": "import keras, keras_extras",
    "and its layers, losses, metrics, optimizers": (
        "import keras; from keras_extras import layers, losses, metrics, optimizers"
    ),
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
    """Prints the medians and returns what each adds to `import keras`, in seconds."""
    times = [{name: seconds(statement) for name, statement in EACH.items()} for _ in range(rounds)]
    counted = times[1:] or times
    medians = {name: statistics.median(time[name] for time in counted) for name in EACH}
    added = {
        name: statistics.median(time[name] - time["keras"] for time in counted) for name in EACH
    }
    print(f"median of {len(counted)} imports, seconds")
    for name in EACH:
        print(f"{name:45s}{medians[name]:8.3f}{added[name]:+8.3f}")
    return added


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="imports of each, with the first")
    parser.add_argument("--fast", action="store_true", help="two rounds")
    arguments = parser.parse_args()
    main(2 if arguments.fast else arguments.rounds)
