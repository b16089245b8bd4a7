"""Second derivatives of operations whose gradients TensorFlow cuts, or does not differentiate."""

import keras
import numpy as np
import pytest
from derivative_cases import difference, flat, random_vector
from keras import layers
from precision import ON_JAX, needs_tensorflow, tolerance

from keras_extras import autodiff, unrolled
from keras_extras.layers import GradientPenalty, SensitivityPenalty, SobolevTraining
from keras_extras.optimizers import NewtonCG

RNG = np.random.default_rng(8)
X = RNG.normal(size=(3, 4, 4, 2)).astype("float32")
Y = RNG.normal(size=(3, 1)).astype("float32")
METHODS = ("nearest", "bilinear", "bicubic", "lanczos3")


def network(layer, activation="softsign"):
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(2, 2, activation=activation),
            layer,
            layers.Conv2D(1, 2, activation="tanh"),
            layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.mark.both_backends
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["reverse_over_reverse", "forward_over_reverse"])
@pytest.mark.parametrize("method", METHODS)
def test_hessian_products_of_resized_images_are_those_of_differences(method, mode):
    model = network(layers.Resizing(5, 6, interpolation=method))
    data = {"x": X, "y": Y, "loss": "mse"}
    vector = random_vector(model, "weights")
    product = autodiff.hessian_vector_product(model, vector=vector, **data, mode=mode)
    change = difference(lambda: autodiff.gradient(model, **data), model, vector)
    scale = np.abs(change).max()
    np.testing.assert_allclose(flat(product), change, rtol=0, atol=tolerance(1e-6, 2e-2) * scale)


@pytest.mark.both_backends
@pytest.mark.usefixtures("float64")
def test_check_gradients_compares_second_derivatives():
    model = network(layers.UpSampling2D(2, interpolation="bilinear"))
    report = autodiff.check_gradients(model, X, Y, loss="mse", order=2, entries=4)
    assert report.passed, report
    with pytest.raises(ValueError, match="`order` must be one of 1, 2"):
        autodiff.check_gradients(model, X, Y, loss="mse", order=3)


@pytest.mark.both_backends
def test_hypergradient_through_up_sampling_is_that_of_differences():
    model = network(layers.UpSampling2D(2, interpolation="bilinear"))
    training = unrolled.UnrolledTraining(
        model, "sgd", "mse", 3, {"learning_rate": 0.5}, batch_size=None, jit_compile=ON_JAX
    )
    objective = training.objective(X, Y, (X[:2], Y[:2]))
    _, gradient = objective({})
    high, low = (objective({"learning_rate": 0.5 + d})[0] for d in (0.02, -0.02))
    np.testing.assert_allclose(gradient["learning_rate"], (high - low) / 0.04, rtol=5e-3)


@pytest.mark.both_backends
def test_newton_finds_the_minimum_behind_up_sampling():
    model = network(layers.UpSampling2D(2, interpolation="bilinear"), "tanh")
    model.compile(NewtonCG(), "mse")
    history = model.fit(X, np.tanh(Y), epochs=15, batch_size=3, verbose=0)
    assert history.history["loss"][-1] < 1e-6


class Scaled(layers.Layer):
    """Resizes by an operation that is not Keras'."""

    def __init__(self, method, **kwargs):
        super().__init__(**kwargs)
        self.method = method

    def call(self, inputs):
        import tensorflow as tf

        images = tf.cast(inputs, "float32")
        size = tf.constant([5, 5])
        if self.method == "bilinear":
            return tf.raw_ops.ResizeBilinear(images=images, size=size)
        return tf.raw_ops.ResizeNearestNeighbor(images=images, size=size)


def vector_of(model):
    return random_vector(model, "weights")


SECOND_ORDER = {
    "hessian": lambda m: autodiff.hessian(m, X, Y, loss="mse"),
    "product": lambda m: autodiff.hessian_vector_product(m, X, Y, vector_of(m), loss="mse"),
    "gauss_newton": lambda m: autodiff.gauss_newton_vector_product(
        m, X, Y, vector_of(m), loss="mse"
    ),
    "forward": lambda m: autodiff.jacobian_vector_product(m, X, vector_of(m)),
    "jacobian": lambda m: autodiff.jacobian(m, X, mode="forward"),
    "unrolled": lambda m: unrolled.UnrolledTraining(
        m, "sgd", "mse", 2, {"learning_rate": 0.1}, batch_size=None
    ).hypergradient(X, Y, (X, Y)),
    "newton": lambda m: (m.compile(NewtonCG(), "mse"), m.fit(X, Y, verbose=0)),
    "penalty": lambda m: GradientPenalty(m)(X),
    "symbolic": lambda m: GradientPenalty(m)(keras.Input((4, 4, 2))),
    "sobolev": lambda m: SobolevTraining(m)(X),
    "sensitivity": lambda m: SensitivityPenalty(m, X[:1])(X),
}


@needs_tensorflow
@pytest.mark.parametrize(
    ("method", "operation"),
    [("bilinear", "ResizeBilinearGrad"), ("nearest", "ResizeNearestNeighborGrad")],
)
@pytest.mark.parametrize("road", SECOND_ORDER)
def test_operations_without_second_derivatives_are_named(road, method, operation):
    model = network(Scaled(method, name="scaled"))
    with pytest.raises(ValueError, match=rf"(?s){operation}.*scaled"):
        SECOND_ORDER[road](model)


@needs_tensorflow
def test_first_derivatives_of_such_operations_are_not_refused():
    model = network(Scaled("bilinear"))
    gradients = autodiff.gradient(model, X, Y, loss="mse")
    assert all(np.any(gradient) for gradient in gradients)
    autodiff.jacobian(model, X, mode="reverse")


@needs_tensorflow
def test_check_gradients_finds_a_gradient_that_is_cut():
    model = network(Scaled("bilinear", name="scaled"))
    first = autodiff.check_gradients(model, X, Y, loss="mse", entries=2)
    second = autodiff.check_gradients(model, X, Y, loss="mse", entries=2, order=2)
    assert first.passed
    assert not second.passed
    assert second.blocking_layers == ["scaled"]
    with pytest.raises(ValueError, match=r"ResizeNearestNeighborGrad.*'scaled'"):
        autodiff.check_gradients(network(Scaled("nearest", name="scaled")), X, order=2)


@needs_tensorflow
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", [*METHODS, "area"])
def test_resizing_gives_the_images_of_tensorflow(method, antialias):
    import tensorflow as tf

    from keras_extras._seams.twice_differentiable import twice_differentiable

    def resize(images, **arguments):
        return tf.image.resize(images, (3, 6), method, antialias=antialias, **arguments)

    for images in (X, X[0], X.astype("float16")):
        expected = resize(images)
        with twice_differentiable():
            found = resize(images)
            kept = resize(images, preserve_aspect_ratio=True)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=2e-3 if images.itemsize == 2 else 2e-6)
        np.testing.assert_array_equal(kept.shape[-3:-1], (3, 3))


@needs_tensorflow
def test_tensorflow_registers_gradients_where_they_are_looked_up():
    """The registry is private; a new version may move it."""
    from keras_extras._core.differentiation.second_derivatives import _has_derivative

    operations = {
        "ResizeBilinearGrad": False,
        "ResizeBicubicGrad": False,
        "FakeQuantWithMinMaxVarsGradient": False,
        "MaxPoolGrad": True,
        "Conv2DBackpropInput": True,
        "StopGradient": True,
        "MatMul": True,
    }
    assert {name: _has_derivative(name) for name in operations} == operations
