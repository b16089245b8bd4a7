"""ChainBackup: what chains have drawn so far, so that a killed run goes on from there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.files import read_arrays, whole_file
from keras_extras._core.probability import tf


class Draws(NamedTuple):
    """Results of chains: `values` of shape `(chains, draws, size)`, and arrays for each draw.

    After a warm-up there are the step size, and the scale of each entry that it is in units of.
    """

    values: np.ndarray
    stats: dict[str, np.ndarray]
    step_size: float | None = None
    scale: np.ndarray | None = None


class ChainBackup:
    """Keeps every chunk of transitions in a file; a run that starts again reads those that exist.

    What is between the chunks, windows and scales, is computed again from them. Files are written
    under other names first, so that those with theirs are whole.

    Args:
        folder: Where the files are.
        settings: What must be the same for the chains to be the same, by the name of it.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any]):
        if not isinstance(folder, str | os.PathLike) or not str(folder):
            raise TypeError(
                f"`backup_dir` must be the path of a folder. Received: backup_dir={folder!r}"
            )
        self._folder = Path(folder)
        self._settings = settings
        self._chunks = 0

    def start(
        self,
        positions: np.ndarray,
        log_probs_fn: Callable[[np.ndarray], np.ndarray],
        generator: np.random.Generator,
    ) -> np.ndarray:
        """Returns where the chains of the backup started, or takes down where they do.

        Args:
            positions: Array of shape `(chains, size)`, where chains would start.
            log_probs_fn: Function from positions to their log densities, which identify models and
                priors.
            generator: The source of seeds, which is set to its state at that time.

        Raises:
            ValueError: If the folder holds another run.
        """
        path = self._folder / "start.npz"
        for left_by_a_kill in self._folder.glob(".*.part*"):
            left_by_a_kill.unlink()
        if path.exists():
            return self._start_again(path, log_probs_fn, generator)
        with whole_file(path) as temporary:
            np.savez(
                temporary,
                positions=positions,
                log_probs=log_probs_fn(positions),
                generator=json.dumps(generator.bit_generator.state),
                settings=json.dumps(self._settings),
            )
        return positions

    def _start_again(self, path, log_probs_fn, generator):
        arrays = read_arrays(path, "a part of a backup of draws")
        settings = json.loads(str(arrays["settings"]))
        differ = [name for name, value in self._settings.items() if settings.get(name) != value]
        if not differ and not np.allclose(
            log_probs_fn(arrays["positions"]), arrays["log_probs"], rtol=1e-5
        ):
            differ = ["density"]
        if differ:
            raise ValueError(
                "`backup_dir` must be a new folder, or hold draws of the same model, prior, data "
                f"and settings. Received: backup_dir={str(self._folder)!r}, with another "
                f"{', '.join(differ)}"
            )
        generator.bit_generator.state = json.loads(str(arrays["generator"]))
        return arrays["positions"]

    def chunk(self, structure: Any, compute: Callable[[], tuple[Draws, Any]]) -> tuple[Draws, Any]:
        """Returns the next chunk of draws and the results of the kernel after it.

        Args:
            structure: The results before this chunk, of which those after it have the structure.
            compute: Function that is called for them where the chunk is not in the folder.
        """
        path = self._folder / f"chunk_{self._chunks:06d}.npz"
        self._chunks += 1
        if path.exists():
            return _read_chunk(path, structure)
        draws, results = compute()
        arrays: dict[str, Any] = {f"stats/{name}": array for name, array in draws.stats.items()}
        leaves = tf.nest.flatten(results)
        arrays |= {f"results/{n}": _array_of(leaf) for n, leaf in enumerate(leaves)}
        with whole_file(path) as temporary:
            np.savez(temporary, values=draws.values, **arrays)
        return draws, results


def _read_chunk(path, structure):
    arrays = read_arrays(path, "a part of a backup of draws")
    stats = {n.removeprefix("stats/"): v for n, v in arrays.items() if n.startswith("stats/")}
    values = [array for name, array in arrays.items() if name.startswith("results/")]
    results = list(map(_leaf_like, tf.nest.flatten(structure), values))
    return Draws(arrays["values"], stats), tf.nest.pack_sequence_as(structure, results)


def _is_key(leaf):
    """Whether it is a key of random numbers of JAX, which is no array of numbers."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _array_of(leaf):
    if not _is_key(leaf):
        return ops.convert_to_numpy(leaf)
    import jax

    return np.asarray(jax.random.key_data(leaf))


def _leaf_like(leaf, array):
    if not _is_key(leaf):
        return ops.convert_to_tensor(array)
    import jax

    return jax.random.wrap_key_data(array)
