"""Structures of the curvature, subsets of the weights, and where the data come from."""

import itertools
import math

import keras
import numpy as np
import pytest
import scipy.linalg
from keras import ops
from probability import jacobians, tfd

from keras_extras import layers
from keras_extras.inference import LaplaceApproximation
from keras_extras.inference.kronecker_layers import kronecker_layer

pytestmark = pytest.mark.both_backends(cases=1)


NOISE = 0.5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = RNG.normal(size=(40, 2)).astype("float32")


def noise(outputs):
    return tfd.Independent(tfd.Normal(outputs, NOISE), 1)


def sequential(*parts):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(parts)
    for variable in model.trainable_variables:
        variable.assign_add(0.3 * RNG.normal(size=variable.shape))
    return model


def linear(**arguments):
    return sequential(keras.Input((3,)), keras.layers.Dense(2, **arguments))


def heteroscedastic(hidden=4):
    return sequential(
        keras.Input((3,)),
        keras.layers.Dense(hidden, activation="tanh", name="hidden"),
        keras.layers.Dense(2, name="last"),
        layers.IndependentNormal(1),
    )


def of_structures(model, *data, structures=("full", "kron", "diag"), **arguments):
    return [
        LaplaceApproximation(model, *data, hessian_structure=structure, **arguments)
        for structure in structures
    ]


def blocks(laplace, groups):
    """The parts of the matrix of groups of consecutive weights."""
    sizes = [sum(v.size for v in laplace.mode[slice(*group)]) for group in groups]
    ends = np.cumsum([0, *sizes])
    return [laplace._matrix[a:b, a:b] for a, b in itertools.pairwise(ends)]


def assert_same(one, other, tolerance=1e-5):
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


# Exact Kronecker products


def test_a_linear_model_has_the_full_curvature():
    weights = RNG.uniform(0.5, 2.0, size=40)
    prior = {"kernel": 0.7, "bias": 2.0}
    for arguments in ({}, {"sample_weight": weights, "prior_stddev": prior, "temperature": 3.0}):
        full, kron, diag = of_structures(linear(), X, Y, likelihood=noise, **arguments)
        assert_same(kron._matrix, full._matrix)
        assert_same(diag._matrix, np.diag(full._matrix))
        for value in (0.3, 2.0):
            expected = full.log_marginal_likelihood(value)
            np.testing.assert_allclose(kron.log_marginal_likelihood(value), expected, rtol=1e-5)
        for one, other in zip(kron.stddev(), full.stddev()):
            np.testing.assert_allclose(one, other, rtol=1e-4)
        np.testing.assert_allclose(
            kron.optimize_prior_stddev(), full.optimize_prior_stddev(), rtol=1e-3
        )
        draws = kron.sample_offsets(40_000, np.random.default_rng(0))
        flat = np.concatenate([part.reshape(40_000, -1) for part in draws], axis=1)
        units = np.sqrt(full._relative)
        covariance = np.linalg.inv(full._matrix + full._precision * np.eye(8))
        assert_same(np.cov(flat.T), covariance / np.outer(units, units), 0.03)


def test_the_marginal_likelihood_of_a_linear_model_is_exact():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    inputs = np.c_[X, np.ones(40)].astype("float64")
    y, precision = Y[:, :1].astype("float64"), 2.0
    mode = np.linalg.solve(
        inputs.T @ inputs / NOISE**2 + precision * np.eye(4), inputs.T @ y / NOISE**2
    )
    model.set_weights([mode[:3], mode[3]])
    covariance = NOISE**2 * np.eye(40) + inputs @ inputs.T / precision
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    expected = -0.5 * ((y.T @ np.linalg.solve(covariance, y))[0, 0] + log_determinant)
    full, kron, diag = (
        each.log_marginal_likelihood()
        for each in of_structures(
            model, X, y, likelihood=noise, prior_stddev=precision**-0.5, batch_size=16
        )
    )
    np.testing.assert_allclose([full, kron], expected, rtol=1e-5)
    # Hadamard: the determinant is at most that of the diagonal.
    assert diag < full - 0.01


LAYERS = {
    "dense": (keras.layers.Dense(4), (3,)),
    "dense of a sequence": (keras.layers.Dense(4, use_bias=False), (5, 3)),
    "conv1d": (keras.layers.Conv1D(3, 3, dilation_rate=2), (8, 2)),
    "conv1d causal": (keras.layers.Conv1D(3, 3, strides=2, padding="causal"), (7, 2)),
    "conv2d": (keras.layers.Conv2D(3, (3, 2), strides=(1, 2), use_bias=False), (6, 5, 2)),
    "conv2d same": (keras.layers.Conv2D(3, 3, strides=2, padding="same"), (6, 5, 2)),
    "einsum to heads": (
        keras.layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="de"),
        (5, 4),
    ),
    "einsum of heads": (
        keras.layers.EinsumDense("abcd,cde->abe", (5, 4), bias_axes="e"),
        (5, 2, 3),
    ),
    "einsum with ellipsis": (
        keras.layers.EinsumDense("...x,xy->...y", 4, bias_axes="y"),
        (2, 5, 3),
    ),
    "einsum transposed": (keras.layers.EinsumDense("abc,bd->adc", (4, 5)), (3, 5)),
}


def kronecker(layer, shape):
    if not layer.built:
        layer.build((None, *shape))
    for variable in layer.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    return kronecker_layer(layer, {id(v): n for n, v in enumerate(layer.trainable_variables)})


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_matrix_products_at_all_positions(name):
    layer, shape = LAYERS[name]
    found = kronecker(layer, shape)
    x = RNG.normal(size=(6, *shape)).astype("float32")
    outputs = found.outputs(x, layer.kernel, layer.bias)
    np.testing.assert_allclose(outputs, layer(x), rtol=1e-5, atol=1e-5)
    matrix = [np.reshape(v, (-1, found.num_outputs)) for v in layer.trainable_variables]
    features = np.asarray(found.features(x))
    assert features.shape[0] == 6
    assert features.shape[2] == found.num_features
    product = features.reshape(-1, found.num_features) @ np.concatenate(matrix)
    np.testing.assert_allclose(found.by_position(outputs), product, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Conv1D(4, 2, groups=2), (5, 4)),
        (keras.layers.Conv1DTranspose(4, 2), (5, 4)),
        (keras.layers.DepthwiseConv2D(2), (5, 5, 2)),
        (keras.layers.EinsumDense("abc,bcd->abd", (2, 3)), (2, 4)),  # a kernel for each b
        (keras.layers.EinsumDense("ab,cb->ac", 3), (4,)),  # outputs before inputs
        (keras.layers.Dense(2), (10_000,)),  # a factor of 10,001 rows
    ],
)
def test_layers_without_factors(layer, shape):
    assert kronecker(layer, shape) is None


def test_a_bias_that_is_no_row_of_the_kernel():
    layer = keras.layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="e")
    found = kronecker(layer, (5, 4))
    assert found.bias is None
    assert found.num_features == 4


def test_one_row_of_one_position_has_the_blocks_of_the_full_curvature():
    model = sequential(
        keras.Input((2, 3, 2)),
        keras.layers.Conv2D(3, (2, 3), activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="tanh", use_bias=False),
        keras.layers.Dense(2),
    )
    x = RNG.normal(size=(1, 2, 3, 2)).astype("float32")
    full, kron = of_structures(
        model, x, Y[:1], likelihood=noise, sample_weight=[2.5], structures=("full", "kron")
    )
    assert kron.diagonal_weights == []
    groups = [(0, 2), (2, 3), (3, 5)]
    for block, expected in zip(blocks(kron, groups), blocks(full, groups)):
        assert_same(block, expected)
    outside = kron._matrix - scipy.linalg.block_diag(*blocks(kron, groups))
    assert not outside.any()


def test_the_factors_of_a_convolution_are_sums_over_positions():
    """KFAC-expand: positions of rows are rows of their own."""
    model = sequential(
        keras.Input((4, 2)), keras.layers.Conv1D(3, 2, padding="same"), keras.layers.Flatten()
    )
    x = RNG.normal(size=(5, 4, 2)).astype("float32")
    laplace = LaplaceApproximation(
        model, x, np.zeros((5, 12)), likelihood=noise, hessian_structure="kron"
    )
    padded = np.pad(x, [(0, 0), (0, 1), (0, 0)])
    patches = np.concatenate([padded[:, :-1], padded[:, 1:], np.ones((5, 4, 1))], axis=2)
    of_features = np.einsum("nti,ntj->ij", patches, patches)
    of_outputs = np.eye(3) * 20 / NOISE**2
    assert_same(laplace._matrix, np.kron(of_features, of_outputs) / 20)


def test_layers_that_are_called_twice_and_shared_weights():
    twice = keras.layers.Dense(3, activation="tanh", name="twice")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(twice(twice(inputs))))
    laplace = LaplaceApproximation(model, X, Y, likelihood=noise, hessian_structure="kron")
    assert laplace.diagonal_weights == []
    first = np.tanh(X @ twice.kernel.numpy() + twice.bias.numpy())
    second = np.tanh(first @ twice.kernel.numpy() + twice.bias.numpy())
    of_second = model.layers[-1].kernel.numpy().T[:, None] * (1 - second**2)
    of_first = (of_second @ twice.kernel.numpy().T) * (1 - first**2)
    grads = np.concatenate([of_first, of_second], axis=1).reshape(-1, 3)
    features = np.c_[np.concatenate([X, first]), np.ones(80)]
    expected = np.kron(features.T @ features, grads.T @ grads / NOISE**2) / 80
    assert_same(blocks(laplace, [(0, 2)])[0], expected)

    class Tied(keras.layers.Layer):
        def call(self, x):
            return ops.matmul(x, ops.transpose(twice.kernel))

    model = keras.Sequential([keras.Input((3,)), twice, Tied(), keras.layers.Dense(2)])
    full, kron, diag = of_structures(model, X, Y, likelihood=noise)
    assert kron.diagonal_weights == ["twice/kernel", "twice/bias"]
    size = kron.mode[0].size + kron.mode[1].size
    assert_same(np.diag(kron._matrix)[:size], np.diag(full._matrix)[:size])
    assert_same(diag._matrix, np.diag(full._matrix))


# Weights without Kronecker factors


def test_a_recurrent_model_with_a_heteroscedastic_head(caplog):
    model = sequential(
        keras.Input((2, 1)),
        keras.layers.LSTM(1, return_sequences=True),
        keras.layers.LSTM(1),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    )
    x, y = X[:3, :2, None], Y[:3, :1]
    kron = LaplaceApproximation(model, x, y, hessian_structure="kron")
    assert len(kron.diagonal_weights) == 6
    assert all("lstm_cell" in path for path in kron.diagonal_weights)
    assert "lstm_cell" in repr(kron)
    messages = [record.getMessage() for record in caplog.records if record.name == "keras_extras"]
    assert sum("diagonal, without Kronecker factors" in message for message in messages) == 1
    expected = np.zeros(24)
    body = keras.Sequential(model.layers[:-1])
    raw = np.asarray(body(x), "float64")[:, 1]
    scales, slopes = np.logaddexp(0, raw), 1 / (1 + np.exp(-raw))
    state = [v.value for v in body.non_trainable_variables]
    parts = jacobians(
        lambda values: body.stateless_call(values, state, x)[0], body.trainable_variables
    )
    derivatives = [np.asarray(part) for part in parts[:6]]
    for row, (scale, slope) in enumerate(zip(scales, slopes)):
        for entry, factor in ((0, scale**-2), (1, 2.0 * (slope / scale) ** 2)):
            parts = [np.ravel(part[row, entry]) for part in derivatives]
            expected += factor * np.square(np.concatenate(parts))
    assert_same(np.diag(kron._matrix)[:24], expected)
    kron.optimize_prior_stddev()
    prediction = kron.predict_distribution(x, num_samples=20, seed=0)
    assert np.isfinite(prediction.log_prob(y)).all()
    assert (np.asarray(prediction.epistemic_variance()) > 0).all()


def test_a_heteroscedastic_head():
    """Of one row, F = diag(1 / s^2, 2 s'^2 / s^2); the blocks of one row are exact."""
    model = heteroscedastic()
    full, kron, diag = of_structures(model, X[:1], Y[:1, :1])
    hidden = np.asarray(model.layers[0](X[:1]))[0].astype("float64")
    raw = hidden @ np.asarray(model.layers[1].kernel) + np.asarray(model.layers[1].bias)
    scale, slope = np.logaddexp(0, raw[1]), 1 / (1 + np.exp(-raw[1]))
    features = np.append(hidden, 1.0)
    information = np.diag([1 / scale**2, 2 * slope**2 / scale**2])
    expected = np.kron(np.outer(features, features), information)
    for laplace in (full, kron):
        assert_same(blocks(laplace, [(0, 2), (2, 4)])[1], expected, 1e-4)
    assert_same(diag._matrix[-10:], np.diag(expected), 1e-4)


def test_classes():
    """Of one row, F = diag(p) - p p^T."""
    model = sequential(
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Dense(3),
        layers.Categorical(3),
    )
    kron = LaplaceApproximation(model, X[:1], np.array([2]), hessian_structure="kron")
    hidden = np.append(model.layers[0](X[:1]), 1.0)
    p = np.asarray(ops.softmax(model.layers[1](model.layers[0](X[:1]))))[0]
    information = np.diag(p) - np.outer(p, p)
    expected = np.kron(np.outer(hidden, hidden), information)
    assert_same(kron._matrix[-15:, -15:], expected)


def test_normalization_embedding_and_grouped_convolutions_are_diagonal():
    ids = keras.Input((4,), dtype="int32")
    hidden = keras.layers.Embedding(5, 4, name="embedding")(ids)
    hidden = keras.layers.Conv1D(4, 2, groups=2, activation="tanh", name="grouped")(hidden)
    hidden = keras.layers.LayerNormalization(name="norm")(hidden)
    hidden = keras.layers.Dense(2, name="dense")(keras.layers.Flatten()(hidden))
    model = keras.Model(ids, layers.IndependentNormal(1)(hidden))
    x = RNG.integers(0, 5, size=(6, 4))
    try:
        kron, diag = of_structures(model, x, Y[:6, :1], structures=("kron", "diag"))
    except Exception as error:
        if "grouped convolutions are not supported on CPU" not in str(error):
            raise
        pytest.skip("TensorFlow has no gradients of grouped convolutions on this processor")
    assert kron.diagonal_weights == [
        *("embedding/embeddings", "grouped/kernel", "grouped/bias", "norm/gamma", "norm/beta")
    ]
    assert diag.diagonal_weights == [variable.path for variable in model.trainable_variables]
    size = sum(v.size for v in kron.mode[:5])
    assert_same(np.diag(kron._matrix)[:size], diag._matrix[:size])


def test_attention_and_layers_inside_others():
    inputs = keras.Input((2, 3))
    hidden = keras.layers.MultiHeadAttention(2, 2, name="attention")(inputs, inputs)
    hidden = keras.layers.TimeDistributed(keras.layers.Dense(2, name="inner"))(hidden)
    model = keras.Model(inputs, keras.layers.Flatten()(hidden))
    x = RNG.normal(size=(4, 2, 3)).astype("float32")
    kron = LaplaceApproximation(
        model, x, np.zeros((4, 4)), likelihood=noise, hessian_structure="kron"
    )
    attention = [v.path for v in model.layers[1].trainable_variables]
    assert not set(attention) & set(kron.diagonal_weights)


# Subsets


def test_subsets_by_pattern_are_parts_of_the_whole():
    model = sequential(
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh", name="hidden"),
        keras.layers.Dense(2, name="last"),
    )
    whole = LaplaceApproximation(model, X, Y, likelihood=noise)._matrix
    for pattern, rows in (
        ("last/*", [*range(16, 26)]),
        (["hidden/kernel", "last/bias"], [*range(12), 24, 25]),
    ):
        full, kron, diag = of_structures(model, X, Y, likelihood=noise, subset_of_weights=pattern)
        assert_same(full._matrix, whole[rows][:, rows])
        assert_same(diag._matrix, np.diag(whole)[rows])
        assert_same(kron._matrix[-2:, -2:], whole[-2:, -2:])
        assert kron.diagonal_weights == []


# Data


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays, batch_size=7, claimed=None):
        super().__init__()
        self.arrays, self.batch_size, self.claimed = arrays, batch_size, claimed

    def __len__(self):
        return self.claimed or math.ceil(len(self.arrays[0]) / self.batch_size)

    def __getitem__(self, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if index * self.batch_size >= len(self.arrays[0]):
            raise IndexError(index)
        return tuple(array[rows] for array in self.arrays)


class Endless(Batches):
    @property
    def num_batches(self):
        return None


def dataset_of(*arrays, batch_size=7):
    data = pytest.importorskip("tensorflow").data
    return data.Dataset.from_tensor_slices(arrays).batch(batch_size)


@pytest.fixture(scope="module")
def shared():
    """A model whose compiled derivatives are used by several tests."""
    return heteroscedastic()


@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
def test_batches_give_what_arrays_give(structure, shared):
    y, weights = Y[:, 0], RNG.integers(0, 3, size=40).astype("float32")

    def fit(*data, **arguments):
        return LaplaceApproximation(shared, *data, hessian_structure=structure, **arguments)

    expected = fit(X, y, sample_weight=weights)
    # Whole numbers as weights are repeated rows.
    rows = np.repeat(np.arange(40), weights.astype(int))
    for laplace in (
        fit(dataset_of(X, y, weights)),
        fit(Batches(X, y, weights[:, None]), batch_size=4),
        fit(X[rows], y[rows]),
    ):
        assert_same(laplace._matrix, expected._matrix)
        np.testing.assert_allclose(
            laplace.log_marginal_likelihood(), expected.log_marginal_likelihood(), rtol=1e-5
        )


def test_a_structure_of_inputs_in_batches():
    one, two = keras.Input((2,), name="one"), keras.Input((1,), name="two")
    hidden = keras.layers.Concatenate()([one, two])
    model = keras.Model({"one": one, "two": two}, keras.layers.Dense(2)(hidden))
    x = {"one": X[:, :2], "two": X[:, 2:]}
    data = dataset_of(x, Y, batch_size=16)
    both = [
        LaplaceApproximation(model, *given, likelihood=noise, hessian_structure="kron")
        for given in ((data,), (x, Y))
    ]
    assert_same(both[0]._matrix, both[1]._matrix)
    assert both[0].predict_distribution(x, num_samples=3, seed=0).batch_shape == (40,)


def failing():
    def rows():
        yield from zip(X[:3], Y[:3, :1])

    tf = pytest.importorskip("tensorflow")
    spec = (tf.TensorSpec((3,), tf.float32), tf.TensorSpec((1,), tf.float32))
    data = tf.data.Dataset.from_generator(rows, output_signature=spec).batch(1)
    return data.apply(tf.data.experimental.assert_cardinality(5))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (lambda: [dataset_of(X, Y[:, :1]).take(0)], ValueError, "empty dataset"),
        (lambda: [dataset_of(X, Y[:, :1]).repeat()], ValueError, "must be a dataset that ends"),
        (lambda: [Endless(X, Y[:, :1])], ValueError, "must be a dataset that ends"),
        (
            lambda: [Batches(X, Y[:, :1], claimed=9)],
            ValueError,
            "6 batches before it stopped, of 9",
        ),
        (lambda: [failing()], ValueError, "3 batches before it stopped, of 5"),
        (lambda: [dataset_of(X)], TypeError, r"dataset of batches \(x, y\)"),
        (lambda: [dataset_of(X, Y[:, :1]), Y], ValueError, "`y` must be `None`"),
        (lambda: [iter([(X, Y[:, :1])])], TypeError, "which can be read only once"),
        (lambda: [X], ValueError, "`y` must be given"),
        (lambda: [dataset_of(X, Y)], ValueError, "cannot pair targets"),
        (
            lambda: [dataset_of(X, np.where(X[:, :1] > 1, np.nan, Y[:, :1]))],
            ValueError,
            "must be finite",
        ),
        (lambda: [dataset_of(X, Y[:, :1], -np.ones(40))], ValueError, "must not be negative"),
        (lambda: [dataset_of(X, Y[:, :1], np.zeros(40))], ValueError, "positive sum"),
        (
            lambda: [dataset_of(X, Y[:, :1], np.ones((40, 2)))],
            ValueError,
            "one number for each row",
        ),
    ],
)
def test_data_that_are_refused(data, error, message, shared):
    before = shared.get_weights()
    with pytest.raises(error, match=message):
        LaplaceApproximation(shared, *data(), hessian_structure="kron")
    for one, other in zip(shared.get_weights(), before):
        np.testing.assert_array_equal(one, other)
    laplace = LaplaceApproximation(shared, X, Y[:, :1], hessian_structure="kron")
    assert np.isfinite(laplace.log_marginal_likelihood())


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hessian_structure": "block"}, ValueError, "'full', 'kron', 'diag'"),
        ({"subset_of_weights": ["nothing/*"]}, ValueError, r"'nothing/\*'.*'.*/kernel'"),
        ({"subset_of_weights": "first_layer"}, ValueError, "matches none of '.*/kernel'"),
        ({"subset_of_weights": []}, ValueError, "`subset_of_weights` must be one of"),
        ({"subset_of_weights": 3}, TypeError, "`subset_of_weights` must be one of"),
        ({"sample_weight": np.ones(39)}, ValueError, "one number for each row"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LaplaceApproximation(linear(), X, Y, likelihood=noise, **arguments)


def test_a_matrix_that_is_too_large():
    model = heteroscedastic(hidden=2000)
    with pytest.raises(ValueError, match=r"'kron'.* 12002 weights, whose matrix takes 1.2 GB"):
        LaplaceApproximation(model, X, Y[:, :1])


def test_models_without_derivatives_or_weights():
    model = sequential(
        keras.Input((3,)),
        keras.layers.Dense(2, name="before"),
        keras.layers.Lambda(ops.round),
        keras.layers.Dense(2),
    )
    for structure in ("full", "kron"):
        with pytest.raises(ValueError, match=r"differentiable.*before/kernel'.*before/bias'"):
            LaplaceApproximation(model, X, Y, likelihood=noise, hessian_structure=structure)
    LaplaceApproximation(model, X, Y, likelihood=noise, subset_of_weights="last_layer")
    model.trainable = False
    with pytest.raises(ValueError, match="must have trainable weights"):
        LaplaceApproximation(model, X, Y, likelihood=noise)


def test_mixed_precision_and_frozen_layers():
    keras.utils.set_random_seed(1)
    names = ("float32", "mixed_bfloat16")
    both = []
    for name in names:
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, activation="tanh", dtype=name),
                keras.layers.Dense(2, dtype="float32"),
            ]
        )
        model.layers[1].trainable = False
        model.set_weights(both[0].model.get_weights() if both else model.get_weights())
        laplace = LaplaceApproximation(model, X, Y, likelihood=noise, hessian_structure="kron")
        assert [v.shape for v in laplace.mode] == [(3, 4), (4,)]
        both.append(laplace)
    assert_same(both[1]._matrix, both[0]._matrix, 0.03)
