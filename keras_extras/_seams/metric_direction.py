"""Which way a metric improves, for the callbacks of Keras that monitor it.

Set is `_direction` of a metric of ours, which `mode="auto"` of `EarlyStopping` and
`ModelCheckpoint` looks for; the public classes of metrics have no argument for it. Known to hold
since Keras 3.12. Such an argument would make it unnecessary.
"""

import keras


def set_direction(metric: keras.metrics.Metric, direction: str | None) -> None:
    """Sets which way a metric improves.

    Args:
        metric: The metric.
        direction: `"up"` or `"down"`; `None` if neither.
    """
    metric._direction = direction
