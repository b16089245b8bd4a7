"""One search over a batch that is shared out over replicas.

The search itself runs once in each process, outside the replicas, and comes to the same in all
processes, because seeds and losses are the same. Only where it evaluates the loss or its gradient
each replica does so on its share of the batch, and what is exchanged are these.

A strategy of one replica is no exception: TensorFlow updates variables of `MirroredStrategy`
outside the replicas, and a branch or a loop within a replica cannot leave it.
"""

import contextvars
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# The strategy, and the loss function and weight of each replica.
_search: contextvars.ContextVar = contextvars.ContextVar("search", default=None)
_loss: contextvars.ContextVar = contextvars.ContextVar("loss")


def check_strategy(name: str, strategy: Any = None) -> None:
    """Raises a ValueError if searches do not run under a strategy of `tf.distribute`.

    Args:
        name: String, of the optimizer.
        strategy: The strategy; `None` for the current one. Defaults to `None`.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    strategy = strategy or tf.distribute.get_strategy()
    works = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.OneDeviceStrategy,
    )
    is_default = strategy is tf.distribute.get_strategy() and not tf.distribute.has_strategy()
    if not is_default and not isinstance(strategy, works):
        raise ValueError(
            f"{name} evaluates the loss in all replicas at the same weights, which works under "
            "`tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy` and "
            "`OneDeviceStrategy`. Build and compile the model in the scope of one of these, or "
            f"without a strategy. Received: {type(strategy).__name__}"
        )


def has_no_strategy(model: keras.Model) -> bool:
    """Returns whether a model, on TensorFlow, trains without a strategy of `tf.distribute`."""
    import tensorflow as tf

    is_default = getattr(model, "distribute_strategy", None) is tf.distribute.get_strategy()
    return is_default and not tf.distribute.has_strategy()


def check_compilation(model: keras.Model) -> None:
    """Raises a ValueError if XLA should compile a step of several devices, which it cannot."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy and strategy.num_replicas_in_sync > 1 and model.jit_compile:
        raise ValueError(
            "A step over several replicas of `tf.distribute` cannot be compiled by XLA. Leave out "
            f"`jit_compile` in `compile`. Received: jit_compile={model.jit_compile!r}, a "
            f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} replicas"
        )


def is_shared_out() -> bool:
    """Returns whether this is a replica, be it the only one, of a strategy that mirrors."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    mirrors = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    is_mirroring = isinstance(tf.distribute.get_strategy(), mirrors)
    return is_mirroring and not tf.distribute.in_cross_replica_context()


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

    Within such a function it is the replica's own result.

    Args:
        function: Function that evaluates the loss function of the search, and returns a structure
            of float tensors, or `None` in place of one.
        *args: Its arguments, the same for all replicas.
    """
    if searching_strategy() is None:
        return function(*args)
    strategy, loss_fns, weights = _search.get()

    is_alone = strategy.num_replicas_in_sync == 1

    def on_share(loss_fn, weight, *args):
        _search.set(None)  # A replica runs in a thread, which has a context to itself.
        _loss.set(loss_fn)
        results = function(*args)
        return results if is_alone else (_over_leaves(weigh, results, weight), weight)

    def weigh(result, weight):
        return ops.where(weight > 0, ops.cast(weight, result.dtype) * result, 0.0)

    results = strategy.run(on_share, args=(loss_fns, weights, *args))
    if is_alone:
        return results
    totals, weight = _over_leaves(lambda part: strategy.reduce("SUM", part, axis=None), results)
    return _over_leaves(lambda total: total / ops.cast(weight, total.dtype), totals)


def _over_leaves(function, structure, *args):
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else function(leaf, *args), structure
    )


def searching_strategy() -> Any:
    """Returns the strategy over whose replicas a search is running, else `None`."""
    return _search.get() and _search.get()[0]
