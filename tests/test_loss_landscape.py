"""The plane of a landscape, the losses on it, and its figure."""

import keras
import numpy as np
import pytest

from keras_extras.visualization import LossLandscape


def bowl(x, y):
    return x**2 + 10 * y**2


def test_a_function_is_evaluated_on_a_grid_around_the_paths():
    path = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 0.0]])
    landscape = LossLandscape.from_function(bowl, {"path": path}, resolution=11)
    assert landscape.horizontal[[0, -1]] == pytest.approx([-0.15, 1.15])
    assert landscape.vertical[[0, -1]] == pytest.approx([-2.3, 0.3])
    expected = landscape.horizontal[4] ** 2 + 10 * landscape.vertical[7] ** 2
    assert landscape.losses[7, 4] == pytest.approx(expected)
    given = LossLandscape.from_function(bowl, limits=((0, 1), (2, 3)), resolution=2)
    np.testing.assert_allclose(given.losses, [[40, 41], [90, 91]])


def test_a_model_is_evaluated_on_the_plane_of_its_paths():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype("float32")
    y = x[:, :1] - 1
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    # Three weights and a bias that vary along two directions, and a little along a third.
    u, v, w = np.linalg.qr(rng.normal(size=(4, 4)))[0][:3]
    steps = rng.normal(size=(12, 2)) * [3.0, 1.0]
    vectors = steps @ np.stack([u, v]) + 0.01 * rng.normal(size=(12, 1)) * w + 0.5
    weights = [[vector[:3, None], vector[3:]] for vector in vectors]
    paths = {"first": weights[:5], "second": weights[5:]}
    landscape = LossLandscape.from_model(model, x, y, paths, resolution=5)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert 0.9999 < landscape.explained_share < 1
    # Distances in the plane are those between the weights.
    points = np.concatenate(list(landscape.paths.values()))
    np.testing.assert_allclose(
        np.linalg.norm(points[0] - points[1:], axis=1),
        np.linalg.norm(vectors[0] - vectors[1:], axis=1),
        atol=0.1,
    )
    # The loss of a linear model is quadratic along every line: third differences vanish.
    third = np.diff(landscape.losses, n=3, axis=1)
    np.testing.assert_allclose(third, 0, atol=1e-4 * landscape.losses.max())
    center = np.mean(vectors, axis=0)
    step = landscape.horizontal[3] * np.linalg.svd(vectors - center)[2][0]
    step += landscape.vertical[1] * np.linalg.svd(vectors - center)[2][1]
    moved = center + step
    expected = np.mean((x @ moved[:3, None] + moved[3] - y) ** 2)
    assert landscape.losses[1, 3] == pytest.approx(expected, rel=1e-4)


def test_the_figure_shows_contours_and_paths():
    path = np.stack([0.9 ** np.arange(9), 0.5 ** np.arange(9)], axis=1)
    landscape = LossLandscape.from_function(bowl, {"a": path, "b": path[:, ::-1]}, resolution=9)
    figure = landscape.plot()
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert len(ax.lines) == 6
    np.testing.assert_allclose(ax.lines[0].get_xydata(), path)
    assert ax.get_xlim() == pytest.approx(tuple(landscape.horizontal[[0, -1]]))
    assert landscape.plot(ax) is figure


def test_losses_that_are_not_finite_are_left_blank():
    landscape = LossLandscape.from_function(
        lambda x, y: np.where(x > 0.5, np.nan, x - y), limits=((0, 1), (0, 1)), resolution=8
    )
    landscape.plot().draw_without_rendering()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossLandscape([0, 1], [0, 1], [[1, 2]]), r"shape \(m, n\)"),
        (lambda: LossLandscape([0, 1], [0, 1], np.full((2, 2), np.inf)), "none that is finite"),
        (lambda: LossLandscape.from_function(bowl), "`limits` must be"),
        (lambda: LossLandscape.from_function(bowl, {"p": [1.0, 2.0]}), r"paths\['p'\] of shape"),
        (lambda: LossLandscape.from_function(bowl, resolution=1), "at least 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_paths_of_a_model_must_fit_and_spread():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.zeros((2, 1))
    with pytest.raises(ValueError, match="with weights of the shapes"):
        LossLandscape.from_model(model, x, x, {"p": [[np.zeros(3)]]})
    with pytest.raises(ValueError, match="spread in two directions"):
        LossLandscape.from_model(model, x, x, {"p": [model.get_weights()] * 3})


def test_the_plane_is_one_of_weights_alone():
    """Counts and moving averages move much farther than weights, and stay as they are."""
    x = np.random.default_rng(0).normal(50.0, 30.0, size=(64, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    path = [model.get_weights()]
    for _ in range(4):
        model.fit(x, x[:, :1] / 50.0, verbose=0)
        path.append(model.get_weights())
    landscape = LossLandscape.from_model(model, x, x[:, :1] / 50.0, {"SGD": path}, resolution=4)
    assert np.isfinite(landscape.losses).all()
    assert np.abs(landscape.paths["SGD"]).max() < 5.0
