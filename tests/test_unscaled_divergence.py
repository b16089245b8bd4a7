"""`fit` warns once of divergences of weights that count in full beside a mean loss."""

import warnings

import keras
import numpy as np
import pytest

from keras_extras import layers

pytestmark = pytest.mark.both_backends(cases=0)

X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")


def nll(y, distribution):
    return -distribution.log_prob(y)


class Summed(keras.losses.Loss):
    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return nll(y_true, y_pred)


def warnings_of(layer, loss=nll, model_class=keras.Sequential):
    model = model_class([layer, layers.IndependentNormal(1)])
    model.compile("sgd", loss)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            model.fit(X, X[:, :1], verbose=0)
    return [entry for entry in caught if "divergence" in str(entry.message)]


@pytest.mark.parametrize("name", ["DenseFlipout", "DenseVariational"])
def test_a_mean_loss_with_weight_1_warns_once(name):
    (warning,) = warnings_of(getattr(layers, name)(2, name="first"))
    assert "Layer 'first' adds the divergence" in str(warning.message)
    assert "kl_weight='auto'" in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize(
    "arguments",
    [
        {"kl_weight": "auto"},
        {"kl_weight": 1.0},
        {"kernel_divergence_fn": lambda q, p, _: q.kl_divergence(p) / 8},
        {"kernel_divergence_fn": None},
        {"kernel_prior_fn": None},
    ],
    ids=lambda arguments: "=".join(map(str, *arguments.items()))[:26],
)
def test_weights_that_are_given_do_not_warn(arguments):
    assert not warnings_of(layers.DenseFlipout(2, **arguments))


def test_other_losses_do_not_warn():
    class OwnSum(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.sum(nll(y, y_pred)) + sum(self.losses)

    assert not warnings_of(layers.DenseFlipout(2), Summed())
    assert not warnings_of(layers.DenseFlipout(2), None)
    assert not warnings_of(layers.DenseFlipout(2), nll, OwnSum)
