import math
from functools import partial

import keras
import numpy as np
import pytest
from keras import ops
from precision import needs_float64, needs_tensorflow, tf

import keras_extras

pytestmark = pytest.mark.both_backends

SCALAR_FORMS = ("field_equation", "linear", "log", "inverse")
FORMS = (*SCALAR_FORMS, "diagonal", "tensor")
EPSILON = 1e-3
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


def einstein(units, form, **arguments):
    return keras_extras.layers.EinsteinLatent(units, form=form, **arguments)


def randomized(units, form, columns=5, seed=0, **arguments):
    """A built layer with weights drawn from the normal distribution, alpha and beta positive."""
    layer = einstein(units, form, **arguments)
    layer.build((None, columns))
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        value = generator.normal(scale=0.7, size=weight.shape)
        weight.assign(np.abs(value) if weight.shape == () else value)
    return layer


def weights_of(layer):
    return {weight.name: np.asarray(weight, "float64") for weight in layer.weights}


def symmetric(components):
    """The symmetric matrices with these lower triangles."""
    n = math.isqrt(2 * components.shape[-1])
    rows, columns = np.tril_indices(n)
    matrices = np.zeros((*components.shape[:-1], n, n))
    matrices[..., rows, columns] = components
    matrices[..., columns, rows] = components
    return matrices


def metric_matrix(factor):
    """g = L L^T from L's lower triangle with the logarithm of its diagonal."""
    lower = np.tril(symmetric(factor))
    np.fill_diagonal(lower, np.exp(np.diagonal(lower)))
    return lower @ lower.T


def expected_form(form, z, weights):
    """The form in float64 and in the plainest words."""
    if form in SCALAR_FORMS:
        a, b = weights["alpha"], weights["beta"]
        return {
            "field_equation": lambda: -a * z / 2 + b * z,
            "linear": lambda: a * (z + b),
            "log": lambda: a * z + np.log(abs(z) + b),
            "inverse": lambda: a / (z + b),
        }[form]()
    constant = weights["cosmological_constant"]
    if form == "diagonal":
        g = np.exp(weights["log_metric"])
        ricci, metric = np.apply_along_axis(np.diag, -1, z), np.diag(g)
        every = np.arange(len(g))
        distinct = (every, every)
    else:
        ricci, metric = symmetric(z), metric_matrix(weights["metric_factor"])
        distinct = np.tril_indices(len(metric))
    curvature = np.trace(np.linalg.inv(metric) @ ricci, axis1=-2, axis2=-1)[..., None, None]
    return (ricci - curvature * metric / 2 + constant * metric)[..., distinct[0], distinct[1]]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [pytest.param("float64", 1e-9, marks=needs_float64), ("float32", 1e-3)],
)
@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 5)])
@pytest.mark.parametrize("form", FORMS)
def test_form_equals_its_formula(form, shape, dtype, tolerance):
    layer = randomized(10, form, use_bias=True, dtype=dtype)
    x = np.random.default_rng(5).normal(size=shape).astype(dtype)
    weights = weights_of(layer)
    expected = expected_form(form, x @ weights["kernel"] + weights["bias"], weights)
    np.testing.assert_allclose(np.asarray(layer(x)), expected, rtol=tolerance, atol=tolerance)


@needs_float64
@pytest.mark.parametrize("units", [1, 3, 6, 10, 15])
def test_tensor_form_has_the_trace_of_the_field_equations(units):
    """Contracted with g^-1, R_mn - 1/2 s g_mn + Lambda g_mn is s - n/2 s + n Lambda."""
    layer = randomized(units, "tensor", dtype="float64")
    x = np.random.default_rng(1).normal(size=(8, 5))
    weights = weights_of(layer)
    inverse = np.linalg.inv(metric_matrix(weights["metric_factor"]))
    n = len(inverse)
    curvature = np.einsum("mn,bmn->b", inverse, symmetric(x @ weights["kernel"]))
    contracted = np.einsum("mn,bmn->b", inverse, symmetric(np.asarray(layer(x))))
    expected = curvature - n / 2 * curvature + n * weights["cosmological_constant"]
    np.testing.assert_allclose(contracted, expected, rtol=1e-9)


def test_diagonal_form_is_the_tensor_form_without_what_is_off_the_diagonal():
    diagonal = randomized(4, "diagonal")
    tensor = einstein(10, "tensor")
    tensor.build((None, 5))
    rows, columns = np.tril_indices(4)
    on_diagonal = rows == columns
    kernel, factor = np.zeros((5, 10)), np.zeros(10)
    weights = weights_of(diagonal)
    kernel[:, on_diagonal] = weights["kernel"]
    factor[on_diagonal] = weights["log_metric"] / 2
    for weight in tensor.weights:
        weight.assign({**weights, "kernel": kernel, "metric_factor": factor}[weight.name])
    x = np.random.default_rng(1).normal(size=(8, 5)).astype("float32")
    outputs = np.asarray(tensor(x))
    np.testing.assert_allclose(outputs[:, on_diagonal], np.asarray(diagonal(x)), rtol=1e-4)
    np.testing.assert_allclose(outputs[:, ~on_diagonal], 0.0, atol=1e-6)


@pytest.mark.parametrize("form", ["diagonal", "tensor"])
def test_metric_starts_as_the_identity(form):
    """With g = 1 in n dimensions, z = g gives s = n and h = (1 - n/2 + Lambda) g."""
    identity = {"diagonal": np.ones(6), "tensor": np.array([1, 0, 1, 0, 0, 1])}[form]
    n = identity.sum()
    layer = einstein(6, form, kernel_initializer=keras.initializers.Identity())
    outputs = np.asarray(layer(identity[None].astype("float32")))
    np.testing.assert_allclose(outputs[0], (1 - n / 2 + 1) * identity, rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("form", "z", "beta", "expected"),
    [
        ("inverse", [0.5, 0.0, -0.5, 1e-5, -1e-5], 0.0, [2.0, 1e3, -2.0, 1e3, -1e3]),
        ("inverse", [-1.0, -2.0], 1.0, [1e3, -1.0]),
        ("log", [0.0, 0.5], 0.0, [math.log(EPSILON), 0.5 + math.log(0.5)]),
        ("log", [0.0, 1.0], -2.0, [math.log(EPSILON), 1.0 + math.log(EPSILON)]),
    ],
)
def test_poles_are_guarded(policy, form, z, beta, expected):
    layer = einstein(
        1,
        form,
        kernel_initializer="ones",
        beta_initializer=keras.initializers.Constant(beta),
        epsilon=EPSILON,
        dtype=policy,
    )
    outputs = layer(np.array(z, "float32")[:, None])
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    tolerance = {"float32": 1e-5, "mixed_float16": 1e-3, "mixed_bfloat16": 1e-2}[policy]
    outputs = np.asarray(ops.cast(outputs, "float32"))[:, 0]
    np.testing.assert_allclose(outputs, expected, rtol=tolerance)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("form", FORMS)
def test_training_through_the_poles_stays_finite_and_keeps_the_constraints(form, policy):
    """Rows of zeros put every z on the pole; high targets push alpha and beta below zero."""
    keras.config.set_dtype_policy(policy)
    layer = einstein(6, form, beta_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    x = np.random.default_rng(1).normal(size=(16, 4)).astype("float32")
    x[::2] = 0.0
    model.fit(x, np.full((16, 6), -3.0, "float32"), epochs=5, batch_size=8, verbose=0)
    for name, value in weights_of(layer).items():
        assert np.isfinite(value).all(), name
        if name in ("alpha", "beta", "cosmological_constant"):
            assert value >= 0.0, name


def test_constraints_can_be_lifted():
    layer = einstein(2, "linear", alpha_constraint=None, beta_constraint=None)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.Adam(0.5), "mse")
    model.fit(np.zeros((8, 2)), np.full((8, 2), -9.0), epochs=9, batch_size=8, verbose=0)
    assert float(layer.beta) < 0.0


@pytest.mark.parametrize(
    ("form", "names"),
    [
        *((form, ["kernel", "alpha", "beta"]) for form in SCALAR_FORMS),
        ("diagonal", ["kernel", "log_metric", "cosmological_constant"]),
        ("tensor", ["kernel", "metric_factor", "cosmological_constant"]),
    ],
)
def test_weights_have_the_names_that_patterns_look_for(form, names):
    layer = einstein(6, form, name="latent")
    layer.build((None, 5))
    assert [weight.path for weight in layer.weights] == [f"latent/{name}" for name in names]


@needs_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_many_candidates_at_once_equal_one_by_one(form, jit_compile):
    x = np.random.default_rng(1).normal(size=(8, 5)).astype("float32")
    layer = einstein(6, form)
    layer.build((None, 5))
    generator = np.random.default_rng(2)
    candidates = [
        tf.constant(generator.uniform(0.2, 1.0, size=(7, *weight.shape)), "float32")
        for weight in layer.weights
    ]

    def outputs(values):
        mapping = list(zip(layer.weights, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return layer(x)

    evaluate = tf.function(partial(ops.vectorized_map, outputs), jit_compile=jit_compile)
    one_by_one = [outputs([values[i] for values in candidates]) for i in range(7)]
    np.testing.assert_allclose(
        np.asarray(evaluate(candidates)), np.stack(one_by_one), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, "`units` must be at least 1"),
        ({"units": 2.5}, TypeError, "`units` must be an integer"),
        ({"units": 4, "epsilon": 0.0}, ValueError, "`epsilon` must be greater than 0"),
        ({"units": 7, "form": "tensor"}, ValueError, r"6 \(n = 3\) and 10 \(n = 4\).*units=7"),
        ({"units": 2, "form": "tensor"}, ValueError, r"1 \(n = 1\) and 3 \(n = 2\).*units=2"),
        ({"units": 4, "form": "Kerr"}, ValueError, ".*".join(FORMS) + ".*form='Kerr'"),
    ],
)
def test_bad_arguments_explain_themselves(arguments, error, message):
    with pytest.raises(error, match=message):
        keras_extras.layers.EinsteinLatent(**arguments)
