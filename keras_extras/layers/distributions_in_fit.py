"""Targets and predictions of models whose outputs are distributions.

1. Keras squeezes or expands predictions whose rank differs from that of the targets by one. That
   makes a plain tensor of a distribution, and a loss such as `-rv_y.log_prob(y)` fails. Here the
   targets are given the distribution's shape before. If they cannot have it, the distribution
   refuses what does not fit.
2. Under `tf.distribute` Keras builds losses and metrics with placeholders in place of the model's
   outputs. Here the model is called again to have distributions.

Models without a layer of distributions train as they did.
"""

import keras

from keras_extras._core.probability import tf
from keras_extras._core.targets import in_precision_of, in_shape_of
from keras_extras._seams.compute_loss import adapt_predictions
from keras_extras._seams.layers_within import layers_within
from keras_extras.layers.distributions_in_metrics import let_metrics_take_distributions


def let_models_train_distributions() -> None:
    """Lets every later `fit` and `evaluate` compute losses and metrics of distributions."""
    adapt_predictions(_adapted)
    let_metrics_take_distributions()


def _adapted(model, x, y, y_pred):
    return _paired(model, y, _outputs(model, x, y_pred))


def _outputs(model, x, y_pred):
    building_for_replicas = keras.backend.backend() == "tensorflow" and (
        tf.distribute.has_strategy()
        and tf.distribute.in_cross_replica_context()
        and not tf.executing_eagerly()
    )
    if not building_for_replicas or x is None or not _makes_distributions(model):
        return y_pred
    return model(x, training=False)


def _makes_distributions(model):
    from keras_extras.layers.distribution_layer import DistributionLayer

    return any(isinstance(layer, DistributionLayer) for layer in layers_within(model))


def _paired(model, y, y_pred):
    """The targets, those of distributions in the shape of a draw, and the predictions.

    A prediction whose targets have another shape becomes one that refuses what has not that of a
    draw: its loss may be one of tensors, such as a sparse crossentropy of logits, or one that knows
    what the columns of its targets are.
    """
    if not any(hasattr(output, "tensor_distribution") for output in keras.tree.flatten(y_pred)):
        return y, y_pred
    from keras_extras.layers.paired_distribution import PairedDistribution

    refusing = {}

    def match(target, output):
        if target is None or not hasattr(output, "tensor_distribution"):
            return target
        target = in_precision_of(output, target)
        matched = in_shape_of(output, target)
        if matched is None:
            refusing[id(output)] = PairedDistribution(output)
        return target if matched is None else matched

    y = _map_targets(match, model, y, y_pred)
    if refusing:
        y_pred = keras.tree.map_structure(lambda output: refusing.get(id(output), output), y_pred)
    return y, y_pred


def _map_targets(match, model, y, y_pred):
    """The targets, each as `match` returns it for the target and its prediction.

    Targets for a part of the outputs, or in a structure that does not fit, are Keras' business.
    """
    if isinstance(y, dict) and isinstance(y_pred, list | tuple):
        y_pred = dict(zip(model.output_names, y_pred))
    if isinstance(y, dict) and isinstance(y_pred, dict):
        return {name: _map_targets(match, model, y[name], y_pred.get(name)) for name in y}
    if isinstance(y_pred, list | tuple) and len(y_pred) == 1:
        y_pred = y_pred[0]
    if isinstance(y, list | tuple):
        y_pred = y_pred if isinstance(y_pred, list | tuple) else [y_pred]
        if len(y) != len(y_pred):
            return y
        return [_map_targets(match, model, *pair) for pair in zip(y, y_pred)]
    return match(y, y_pred)
