import keras
import numpy as np
import pytest

import keras_extras

pytestmark = pytest.mark.both_backends


def test_scales_the_shifted_input():
    layer = keras_extras.layers.ScaleShift(
        scale_initializer=keras.initializers.Constant(3.0),
        shift_initializer=keras.initializers.Constant(0.5),
    )
    x = np.array([[1.0, -2.0], [0.0, 4.0]], "float32")
    np.testing.assert_allclose(np.asarray(layer(x)), [[4.5, -4.5], [1.5, 13.5]])


def test_has_two_scalars_and_starts_as_the_identity():
    layer = keras_extras.layers.ScaleShift(name="after")
    x = np.array([[1.0, -2.0]], "float32")
    np.testing.assert_array_equal(np.asarray(layer(x)), x)
    assert [weight.path for weight in layer.weights] == ["after/scale", "after/shift"]
    assert [weight.shape for weight in layer.weights] == [(), ()]


@pytest.mark.parametrize(
    ("constraint", "fitted"),
    [("non_neg", {"scale": 0.0, "shift": 0.0}), (None, {"scale": -2.0, "shift": 0.5})],
)
def test_constraints_hold_and_can_be_lifted(constraint, fitted):
    layer = keras_extras.layers.ScaleShift(
        scale_initializer=keras.initializers.Constant(-1.0 if constraint is None else 1.0),
        scale_constraint=constraint,
        shift_constraint=constraint,
    )
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = np.tile(np.linspace(-1.0, 1.0, 16, dtype="float32"), 200)[:, None]
    model.fit(x, -2.0 * (x + 0.5), batch_size=16, shuffle=False, verbose=0)
    for name, value in fitted.items():
        assert float(getattr(layer, name)) == pytest.approx(value, abs=0.05), name


def test_regularizers_add_their_losses():
    layer = keras_extras.layers.ScaleShift(
        scale_initializer=keras.initializers.Constant(3.0),
        shift_initializer=keras.initializers.Constant(0.5),
        scale_regularizer=keras.regularizers.L2(0.1),
        shift_regularizer=keras.regularizers.L1(0.2),
    )
    layer.build((None, 1))
    assert sorted(float(loss) for loss in layer.losses) == pytest.approx([0.1, 0.9])
