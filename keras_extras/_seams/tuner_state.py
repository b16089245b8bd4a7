"""State of a resumed search of keras-tuner that has no public place.

Called is `_populate_initial_space` of a tuner. Set are `_ordered_ids` and `_populate_next` of a
`GridSearchOracle`, which its state on the disk does not hold. Known to hold since keras-tuner
1.4.8. An oracle that saves its grid, and a tuner that finds its space before it reloads, would make
it unnecessary.
"""

from collections.abc import Sequence

import keras_tuner


def find_space_again(tuner: keras_tuner.Tuner) -> None:
    """Lets a tuner find the space of its hypermodel as if it had just been constructed."""
    tuner._populate_initial_space()


def set_grid(oracle: keras_tuner.oracles.GridSearchOracle, ordered: Sequence[str]) -> None:
    """Gives a grid its trials, of which each may have a successor that was not tried.

    Args:
        oracle: The oracle.
        ordered: The ids of all trials, in the order of the grid.
    """
    oracle._ordered_ids = type(oracle._ordered_ids)()
    for trial_id in ordered:
        oracle._ordered_ids.insert(trial_id)
    oracle._populate_next = [one for one in oracle.start_order if one in oracle.trials]
