"""Updates of Keras' optimizers for one weight, as pure functions that can be differentiated.

They are restated, because Keras' own assign to variables, and an assignment has no derivative.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._seams.optimizer_variables import decays

# Settings that change the update beside the rule, with the values that turn them off.
_EXTRAS = {
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
    "ema_overwrite_every_n_steps": (None,),
    "amsgrad": (False,),
    "centered": (False,),
}
_CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")


@dataclass(frozen=True)
class UpdateRule:
    """The rule of an optimizer for one weight.

    Args:
        name: String, what the rule is called in errors.
        settings: Dict from the names of the continuous settings to their values, which are numbers
            or one for each step.
        slots: Function from a weight to a tuple of the tensors that are kept from step to step.
        update: Function `(weight, gradient, slots, settings)` that returns the next weight and
            slots.
        clip: Function from the gradients of all weights to those that `update` takes.
        trained: Function `(weight, slots)` that returns the weight that training leaves.
        undecayed: Positions of the weights that have no decay.
    """

    name: str
    settings: dict[str, Any]
    slots: Callable[[Any], tuple]
    update: Callable[[Any, Any, tuple, dict[str, Any]], tuple[Any, tuple]]
    clip: Callable[[list], list] = list
    trained: Callable[[Any, tuple], Any] = lambda weight, slots: weight
    undecayed: frozenset = frozenset()


def update_rule(
    optimizer: Any, steps: int, learned: Sequence[str], variables: Sequence[keras.Variable]
) -> UpdateRule:
    """Returns the rule of a Keras optimizer.

    Args:
        optimizer: Keras optimizer, its name or configuration: `SGD`, `RMSprop`, `Adam` or `AdamW`.
        steps: Integer, for how many steps a schedule of the learning rate is evaluated.
        learned: Names of settings that are hyperparameters; a momentum or a weight decay among
            them makes the rule one with it whatever the optimizer's own.
        variables: The trainable variables of the model.

    Raises:
        ValueError: If it is another optimizer, or has a setting that is not unrolled.
    """
    try:
        optimizer = keras.optimizers.get(optimizer)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`optimizer` must be keras.optimizers.SGD, RMSprop, Adam or AdamW, or its name, and "
            f"comes before `loss` as in `compile`. Received: optimizer={optimizer!r}"
        ) from error
    families = {
        keras.optimizers.SGD: _sgd,
        keras.optimizers.RMSprop: _rmsprop,
        keras.optimizers.Adam: _adam,
        keras.optimizers.AdamW: _adam,
    }
    if type(optimizer) not in families:
        raise ValueError(
            "`optimizer` must be keras.optimizers.SGD, RMSprop, Adam or AdamW, whose rules are "
            f"differentiated. Received: optimizer of type {type(optimizer).__name__}"
        )
    config = optimizer.get_config()
    for name, off in _EXTRAS.items():
        if name in config and config[name] not in off:
            raise ValueError(
                f"`optimizer` must leave `{name}` off, which is not unrolled. "
                f"Received: {type(optimizer).__name__} with {name}={config[name]!r}"
            )
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        schedule = keras.optimizers.schedules.deserialize(rate)
        rate = np.array([float(schedule(step)) for step in range(steps)])
    rule = families[type(optimizer)]({**config, "learning_rate": rate}, learned)
    if config["weight_decay"] is not None or "weight_decay" in learned:
        undecayed = {n for n, variable in enumerate(variables) if not decays(optimizer, variable)}
        rule = _with_decay(rule, config["weight_decay"] or 0.0, frozenset(undecayed))
    for name in _CLIPS:
        if config[name]:
            clip = functools.partial({"clipvalue": _clip_value}.get(name, _clip_norm), config[name])
            if name == "clipnorm":
                clip = functools.partial(_each, clip)
            rule = replace(rule, name=f"{rule.name} with {name}", clip=clip)
    return _with_average(rule, config["ema_momentum"]) if config["use_ema"] else rule


def _with_decay(rule, decay, undecayed):
    def update(weight, gradient, slots, settings):
        weight = weight * (1 - settings["weight_decay"] * settings["learning_rate"])
        return rule.update(weight, gradient, slots, settings)

    settings = {**rule.settings, "weight_decay": decay}
    name = f"{rule.name} with weight decay"
    return replace(rule, name=name, settings=settings, update=update, undecayed=undecayed)


def _with_average(rule, momentum):
    """The rule with an exponential moving average of the weights, which training ends with."""

    def slots(weight):
        return (*rule.slots(weight), ops.zeros_like(weight), ops.zeros((), weight.dtype))

    def update(weight, gradient, slots, settings):
        *slots, average, has_begun = slots
        weight, slots = rule.update(weight, gradient, tuple(slots), settings)
        momentum = settings["ema_momentum"] * has_begun
        average = momentum * average + (1 - momentum) * weight
        return weight, (*slots, average, ops.ones_like(has_begun))

    return replace(
        rule,
        name=f"{rule.name} with averaged weights",
        settings={**rule.settings, "ema_momentum": momentum},
        slots=slots,
        update=update,
        trained=lambda weight, slots: slots[-2],
    )


def _each(clip, gradients):
    return [clip([gradient])[0] for gradient in gradients]


def _clip_value(bound, gradients):
    return [ops.clip(gradient, -bound, bound) for gradient in gradients]


def _clip_norm(bound, gradients):
    norm = _root(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    return [gradient * (bound / ops.maximum(norm, bound)) for gradient in gradients]


def _sgd(config, learned):
    settings = {"learning_rate": config["learning_rate"]}
    if not config["momentum"] and "momentum" not in learned:
        return UpdateRule("SGD without momentum", settings, lambda weight: (), _descend)
    settings["momentum"] = config["momentum"]
    nesterov = config["nesterov"]
    name, update = ("Nesterov SGD", _nesterov) if nesterov else ("SGD with momentum", _momentum)
    return UpdateRule(name, settings, lambda weight: (ops.zeros_like(weight),), update)


def _descend(weight, gradient, slots, settings):
    return weight - settings["learning_rate"] * gradient, slots


def _momentum(weight, gradient, slots, settings):
    (velocity,) = slots
    velocity = settings["momentum"] * velocity - settings["learning_rate"] * gradient
    return weight + velocity, (velocity,)


def _nesterov(weight, gradient, slots, settings):
    (velocity,) = slots
    step = settings["learning_rate"] * gradient
    velocity = settings["momentum"] * velocity - step
    return weight + settings["momentum"] * velocity - step, (velocity,)


def _rmsprop(config, learned):
    settings = {name: config[name] for name in ("learning_rate", "rho")}
    has_momentum = bool(config["momentum"]) or "momentum" in learned
    if has_momentum:
        settings["momentum"] = config["momentum"]

    def slots(weight):
        return (ops.zeros_like(weight),) * (1 + has_momentum)

    def update(weight, gradient, slots, settings):
        square, *velocity = slots
        square = settings["rho"] * square + (1 - settings["rho"]) * ops.square(gradient)
        step = settings["learning_rate"] * gradient / ops.sqrt(square + config["epsilon"])
        if has_momentum:
            step = velocity[0] = settings["momentum"] * velocity[0] + step
        return weight - step, (square, *velocity)

    return UpdateRule("RMSprop", settings, slots, update)


def _adam(config, learned):
    settings = {name: config[name] for name in ("learning_rate", "beta_1", "beta_2")}

    def slots(weight):
        zeros, one = ops.zeros_like(weight), ops.ones((), weight.dtype)
        return zeros, zeros, one, one

    def update(weight, gradient, slots, settings):
        mean, square, product_1, product_2 = slots
        beta_1, beta_2 = settings["beta_1"], settings["beta_2"]
        mean = mean + (gradient - mean) * (1 - beta_1)
        square = square + (ops.square(gradient) - square) * (1 - beta_2)
        # Of all betas so far: powers where they are equal, as in Keras.
        product_1, product_2 = product_1 * beta_1, product_2 * beta_2
        rate = settings["learning_rate"] * ops.sqrt(1 - product_2) / (1 - product_1)
        weight = weight - rate * mean / (_root(square) + config["epsilon"])
        return weight, (mean, square, product_1, product_2)

    return UpdateRule("Adam", settings, slots, update)


def _root(square):
    """The square root, with a derivative of 0 at 0: a weight that no input reaches stays there."""
    is_positive = square > 0
    return ops.where(is_positive, ops.sqrt(ops.where(is_positive, square, 1.0)), 0.0)
