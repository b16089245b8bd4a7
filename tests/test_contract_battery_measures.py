"""The checks of losses and metrics pass what is sound and catch what is broken."""

from functools import partial

import keras
import numpy as np
import pytest
from contract import LossCase, MetricCase, check_loss, check_metric
from keras import ops
from test_contract_battery import ROWS, LeavesOut, registered

TARGETS = np.random.default_rng(1).normal(size=(12, 3)).astype("float32")


# Losses


@registered
class SoundLoss(keras.losses.Loss):
    """Mean absolute error with a factor."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * ops.mean(ops.abs(y_true - y_pred), axis=-1)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@registered
class ForgetsItsFactor(LeavesOut, SoundLoss):
    argument = "factor"


@registered
class AveragesOverRows(SoundLoss):
    fault = "Not one loss per row"

    def call(self, y_true, y_pred):
        return ops.mean(super().call(y_true, y_pred))


@registered
class IgnoresReduction(SoundLoss):
    fault = "'sum_over_batch_size'"

    def __call__(self, y_true, y_pred, sample_weight=None):
        losses = super().call(y_true, y_pred)
        return losses if self.reduction == "none" else ops.sum(losses)


@registered
class IgnoresSampleWeight(SoundLoss):
    fault = "sample weight of zero"

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred)


@registered
class IsNotFinite(SoundLoss):
    fault = "not finite"

    def call(self, y_true, y_pred):
        return ops.log(super().call(y_true, y_pred) * 0.0)


@registered
class LosesItsFactorInFiles(SoundLoss):
    fault = "another config"

    @classmethod
    def from_config(cls, config):
        config.pop("factor")
        return cls(**config)


LOSS_FAULTS = [
    ForgetsItsFactor,
    AveragesOverRows,
    IgnoresReduction,
    IgnoresSampleWeight,
    IsNotFinite,
    LosesItsFactorInFiles,
]


def test_a_sound_loss_passes():
    check_loss(LossCase("sound", partial(SoundLoss, factor=3.0), TARGETS, ROWS))


@pytest.mark.parametrize("loss", LOSS_FAULTS)
def test_a_loss_fault_is_caught(loss):
    with pytest.raises(AssertionError, match=loss.fault):
        check_loss(LossCase("broken", partial(loss, factor=3.0), TARGETS, ROWS))


@registered
class SoundBatchLoss(SoundLoss):
    """Root of the mean squared error, with a factor."""

    def __init__(self, factor=2.0, name="sound_of_batch"):
        super().__init__(factor=factor, name=name)

    def __call__(self, y_true, y_pred, sample_weight=None):
        squares = ops.mean(ops.square(y_true - ops.cast(y_pred, "float32")), axis=-1)
        weights = ops.ones_like(squares) if sample_weight is None else sample_weight
        return self.factor * ops.sqrt(ops.sum(weights * squares) / ops.sum(weights))

    def get_config(self):
        config = super().get_config()
        del config["reduction"]
        return config


@registered
class KeepsTheRows(SoundBatchLoss):
    fault = "Not one loss of the batch"

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred) * ops.ones(len(y_true))


@registered
class TakesWeightsForFlags(SoundBatchLoss):
    fault = "Sample weights 0, 1 and 2"

    def __call__(self, y_true, y_pred, sample_weight=None):
        flags = None if sample_weight is None else ops.sign(sample_weight)
        return super().__call__(y_true, y_pred, flags)


@registered
class IsNotFiniteForTheBatch(SoundBatchLoss):
    fault = "not finite"

    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.log(0.0 * super().__call__(y_true, y_pred, sample_weight))


def test_a_sound_loss_of_the_batch_passes():
    check_loss(LossCase("sound", partial(SoundBatchLoss, factor=3.0), TARGETS, ROWS, of_batch=True))


@pytest.mark.parametrize("loss", [KeepsTheRows, TakesWeightsForFlags, IsNotFiniteForTheBatch])
def test_a_fault_of_a_loss_of_the_batch_is_caught(loss):
    case = LossCase("broken", partial(loss, factor=3.0), TARGETS, ROWS, of_batch=True)
    with pytest.raises(AssertionError, match=loss.fault):
        check_loss(case)


# Metrics


@registered
class SoundMetric(keras.metrics.Metric):
    """Mean squared error with a factor."""

    def __init__(self, factor=2.0, name="sound", **kwargs):
        super().__init__(name=name, **kwargs)
        self.factor = factor
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        errors = ops.mean(ops.square(y_true - y_pred), axis=-1)
        weights = ops.ones_like(errors) if sample_weight is None else sample_weight
        weights = ops.cast(weights, errors.dtype)
        self.total.assign(self.total + ops.sum(weights * errors))
        self.count.assign(self.count + ops.sum(weights))

    def result(self):
        return self.factor * self.total / self.count

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@registered
class ForgetsTheFactor(LeavesOut, SoundMetric):
    argument = "factor"


@registered
class SeesOnlyTheLastBatch(SoundMetric):
    fault = "Two batches"

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.reset_state()
        super().update_state(y_true, y_pred, sample_weight)


@registered
class DoesNotReset(SoundMetric):
    fault = "`reset_state`"

    def reset_state(self):
        pass


@registered
class IgnoresWeights(SoundMetric):
    fault = "Sample weights"

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)


@registered
class RoundsInMixedPrecision(SoundMetric):
    fault = "mixed_float16"

    def update_state(self, y_true, y_pred, sample_weight=None):
        dtype = keras.config.dtype_policy().compute_dtype
        y_pred = ops.cast(ops.cast(y_pred, dtype), "float32")
        super().update_state(y_true, y_pred, sample_weight)


METRIC_FAULTS = [
    ForgetsTheFactor,
    SeesOnlyTheLastBatch,
    DoesNotReset,
    IgnoresWeights,
    RoundsInMixedPrecision,
]


def test_a_sound_metric_passes():
    check_metric(MetricCase("sound", lambda: SoundMetric(factor=3.0), TARGETS, ROWS))


@pytest.mark.parametrize("metric", METRIC_FAULTS)
def test_a_metric_fault_is_caught(metric):
    with pytest.raises(AssertionError, match=metric.fault):
        check_metric(MetricCase("broken", metric, TARGETS, ROWS))
