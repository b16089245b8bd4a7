"""One search over a batch that is shared out over replicas.

The search itself runs once in each process, outside the replicas, and comes to the same in all
processes, because seeds and losses are the same. Only where it evaluates candidates each replica
evaluates all of them on its share of the batch, and what is exchanged are their losses.
"""

import contextvars
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# The strategy, and the loss function and weight of each replica.
_search: contextvars.ContextVar = contextvars.ContextVar("search", default=None)
_loss: contextvars.ContextVar = contextvars.ContextVar("loss")


def is_shared_out() -> bool:
    """Returns whether this is one of several replicas that each hold a share of a batch."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    return strategy.num_replicas_in_sync > 1 and not tf.distribute.in_cross_replica_context()


def search_over_replicas(
    search: Callable[[Callable[[], Any]], None], loss_fn: Callable[[], Any], weight: Any
) -> None:
    """Leaves the replicas, and calls `search` with a loss that belongs to all of them.

    Args:
        search: Function of the loss function.
        loss_fn: This replica's function that returns the loss of its share.
        weight: Scalar, the weight of this loss in the mean over the replicas.
    """
    import tensorflow as tf

    def once(strategy, loss_fns, weights):
        token = _search.set((strategy, loss_fns, weights))
        # What is not evaluated by `mean_over_replicas` is traced with one share for all.
        loss_token = _loss.set(strategy.experimental_local_results(loss_fns)[0])
        try:
            search(lambda: _loss.get()())
        finally:
            _loss.reset(loss_token)
            _search.reset(token)

    weight = ops.cast(weight, "float32")
    tf.distribute.get_replica_context().merge_call(once, args=(loss_fn, weight))


def mean_over_replicas(function: Callable[..., Any], *args: Any) -> Any:
    """Returns the mean of `function(*args)` over the replicas that a search is for.

    Args:
        function: Function that evaluates the loss function of the search.
        *args: Its arguments, the same for all replicas.
    """
    if _search.get() is None:
        return function(*args)
    strategy, loss_fns, weights = _search.get()

    def on_share(loss_fn, weight, *args):
        _loss.set(loss_fn)
        return ops.where(weight > 0, weight * function(*args), 0.0), weight

    total, weight = (
        strategy.reduce("SUM", values, axis=None)
        for values in strategy.run(on_share, args=(loss_fns, weights, *args))
    )
    return total / weight


def searching_strategy() -> Any:
    """Returns the strategy over whose replicas a search is running, else `None`."""
    return _search.get() and _search.get()[0]
