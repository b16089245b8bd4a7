"""Four optimizers on physics-informed networks: relative L2 error after so many seconds.

The problems and networks are those of `examples/physics_informed.py`, all points in one batch, in
float64. Each optimizer gets the same seconds, compilation included, unless it ends before; Adam
takes an update each epoch, of a rate that falls from 0.01.

    python benchmarks/physics_informed.py
    python benchmarks/physics_informed.py --problems poisson_1d --seconds 60
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from common import command_line, conditions

_PATH = Path(__file__).parent.parent / "examples" / "physics_informed.py"
_SPEC: Any = importlib.util.spec_from_file_location("examples_physics_informed", _PATH)
example = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(example)

# Of each run; less where that is enough.
SECONDS = {"poisson_1d": 60.0, "poisson_2d": 120.0}


def main(
    problems: Sequence[str] = tuple(example.PROBLEMS),
    optimizers: Sequence[str] = tuple(example.OPTIMIZERS),
    seconds: float | None = None,
    points: int = 4096,
    width: int = 20,
) -> dict[tuple[str, str], Any]:
    """Prints the table; returns the runs by problem and optimizer."""
    with example.double_precision():
        return _compare(problems, optimizers, seconds, points, width)


def _compare(problems, optimizers, seconds, points, width):
    machine, versions = conditions()
    print(f"{machine}, {versions}, {points} points, 3 layers of {width}")
    print(f"{'':18}{'':20}{'relative L2 error':>18}{'seconds':>9}{'viscosity':>12}")
    results = {}
    for problem in problems:
        limit = SECONDS.get(problem, 330.0) if seconds is None else seconds
        for optimizer in optimizers:
            watch = example.solve(problem, optimizer, limit, width, points=points)
            results[problem, optimizer] = watch
            found = float(keras.ops.exp(watch.model.log_viscosity))
            viscosity = f"{found:12.7f}" if example.PROBLEMS[problem].is_inverse else ""
            print(
                f"{problem:18}{optimizer:20}{watch.errors[-1]:18.1e}{watch.seconds[-1]:9.0f}"
                f"{viscosity}",
                flush=True,
            )
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--problems", nargs="+", default=list(example.PROBLEMS))
    parser.add_argument("--optimizers", nargs="+", default=list(example.OPTIMIZERS))
    parser.add_argument("--seconds", type=float, help="of each run; 60 to 330 if left out")
    parser.add_argument("--points", type=int, default=4096)
    parser.add_argument("--width", type=int, default=20, help="units of each of 3 layers")
    main(**vars(parser.parse_args()))
