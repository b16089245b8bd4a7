import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_extras import visualization

pytestmark = pytest.mark.both_backends

RNG = np.random.default_rng(0)


def test_history_draws_each_run_its_validation_and_the_floor():
    runs = {"a": {"loss": [3.0, 2.0, 1.0], "val_loss": [4.0, 3.0, 2.0]}, "b": {"loss": [1.0]}}
    figure = visualization.plot_history(runs, floor=0.5)
    ax = figure.axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["a", "a, held out", "b", "floor, 0.5"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [4.0, 3.0, 2.0])
    assert ax.lines[0].get_color() == ax.lines[1].get_color() != ax.lines[2].get_color()
    assert ax.get_xlim() == (1, 3)
    figure.draw_without_rendering()
    ticks = dict(zip(ax.get_yticks().round(6), (t.get_text() for t in ax.get_yticklabels())))
    assert {ticks[value] for value in (0.5, 1.0, 2.0, 3.0)} == {"0.5", "1", "2", "3"}


def test_history_of_an_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match=r"one of 'loss'.*metric='auc'"):
        visualization.plot_history({"a": {"loss": [1.0]}}, metric="auc")


def test_what_fit_returned_is_drawn_as_it_is():
    history = keras.callbacks.History()
    history.set_model(keras.Sequential())
    history.on_train_begin()
    history.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    legend = visualization.plot_history(history).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["training", "training, held out"]


@pytest.mark.parametrize(
    ("histories", "error", "message"),
    [
        (None, TypeError, "must be what `fit` returned.*NoneType"),
        ({}, ValueError, "must hold a run"),
        ({"loss": [1.0]}, TypeError, "Each entry of `histories` .* type list for 'loss'"),
    ],
)
def test_histories_that_are_none(histories, error, message):
    with pytest.raises(error, match=message):
        visualization.plot_history(histories)


def test_figures_are_drawn_on_given_axes():
    figure = Figure()
    ax = figure.subplots()
    assert visualization.plot_intervals({"a": (0.0, 1.0, 2.0)}, ax=ax) is figure
    assert visualization.plot_history({"a": {"loss": [1.0]}}, ax=ax) is figure
    assert (
        visualization.plot_latents(RNG.normal(size=(9, 2)), np.zeros(9), ax=figure.add_subplot())
        is figure
    )


def test_latents_show_the_two_widest_directions():
    scales = np.array([0.1, 5.0, 0.2, 2.0])
    latents = RNG.normal(size=(3000, 4)) * scales
    labels = (latents[:, 1] > 0).astype(int)
    figure = visualization.plot_latents(latents, labels, {0: "background", 1: "signal"})
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["background", "signal"]
    assert "86% of the variance" in ax.get_xlabel()
    points, colors = ax.collections[0].get_offsets(), ax.collections[0].get_facecolors()
    assert len(points) == 3000
    np.testing.assert_allclose(points.std(axis=0), [5.0, 2.0], rtol=0.05)
    # The widest direction alone tells the classes apart, and each has the color of its name.
    for handle, label in zip(ax.get_legend().legend_handles, (0, 1)):
        of_class = (colors[:, :3] == handle.get_facecolor()[0, :3]).all(axis=1)
        np.testing.assert_array_equal(of_class, labels == label)
    first = np.asarray(points[:, 0])
    assert abs(np.corrcoef(first, latents[:, 1])[0, 1]) > 0.999


def test_latents_are_thinned_out():
    figure = visualization.plot_latents(RNG.normal(size=(999, 3)), np.zeros(999), max_points=100)
    assert len(figure.axes[0].collections[0].get_offsets()) == 100


@pytest.mark.parametrize(
    ("latents", "labels"),
    [(np.ones((3, 1)), np.ones(3)), (np.ones(3), np.ones(3)), (np.ones((3, 2)), np.ones((3, 1)))],
)
def test_latents_of_wrong_shapes_are_an_error(latents, labels):
    with pytest.raises(ValueError, match=r"Received: latents\.shape"):
        visualization.plot_latents(latents, labels)


def test_reconstructions_show_every_feature_with_its_r_squared():
    x = RNG.normal(size=(400, 7))
    restored = x.copy()
    restored[:, 1] = 0.5 * (x[:, 1] + x[:, 1].mean())
    figure = visualization.plot_reconstructions(x, restored, [f"x{j}" for j in range(7)])
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "x0\n$R^2$ = 1.00"
    assert titles[1] == "x1\n$R^2$ = 0.75"
    assert titles[7:] == [""] * 5
    np.testing.assert_array_equal(figure.axes[2].collections[0].get_offsets()[:, 0], x[:, 2])
    limits = figure.axes[2].get_xlim()
    np.testing.assert_array_equal(figure.axes[2].lines[0].get_xydata(), np.transpose([limits] * 2))


def test_reconstructions_of_many_features_say_what_they_leave_out():
    x = RNG.normal(size=(20, 50))
    figure = visualization.plot_reconstructions(x, x, max_features=3)
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == [
        f"feature {j}" for j in range(3)
    ]
    assert figure.get_suptitle() == "first 3 of 50 features"


def test_reconstructions_check_shapes_and_names():
    x = np.zeros((5, 3))
    with pytest.raises(ValueError, match="same shape"):
        visualization.plot_reconstructions(x, x[:, :2])
    with pytest.raises(ValueError, match="3 names"):
        visualization.plot_reconstructions(x, x, ["a"])


def test_intervals_show_every_entry_of_every_array():
    intervals = {"alpha": (0.0, 1.0, 3.0), "g": (np.zeros(2), np.ones(2), np.array([2.0, 4.0]))}
    ax = visualization.plot_intervals(intervals).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["alpha", "g[0]", "g[1]"]
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_array_equal(segments[:, :, 0], [[0, 3], [0, 2], [0, 4]])
    np.testing.assert_array_equal(ax.collections[1].get_offsets()[:, 0], [1.0, 1.0, 1.0])
    colors = ax.collections[0].get_colors()
    assert (colors[1] == colors[2]).all()
    assert (colors[0] != colors[1]).any()


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["model/dense/kernel", "model/dense/bias"], ["kernel", "bias"]),
        (["model/ab/w", "model/ac/w"], ["ab/w", "ac/w"]),
        (["model/dense/kernel"], ["kernel"]),
        (["model/w", "b"], ["model/w", "b"]),
    ],
)
def test_intervals_leave_out_the_folders_that_all_names_share(paths, shown):
    figure = visualization.plot_intervals(dict.fromkeys(paths, (0.0, 1.0, 2.0)))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == shown


def test_long_intervals_say_what_they_leave_out():
    many = {"w": (np.zeros(50), np.ones(50), np.ones(50))}
    figure = visualization.plot_intervals(many, max_entries=10)
    assert figure.axes[0].get_title() == "first 10 of 50 parameters"
    with pytest.raises(ValueError, match="must not be empty"):
        visualization.plot_intervals({})


def test_files_are_complete_or_not_there(tmp_path):
    figure = visualization.plot_intervals({"a": (0.0, 1.0, 2.0)})
    path = visualization.save_figure(figure, tmp_path / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="not supported"):
        visualization.save_figure(figure, tmp_path / "a.nonsense")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(TypeError, match=r"`figure` must be a matplotlib Figure.*type dict"):
        visualization.save_figure({}, tmp_path / "b.png")


def test_schedules_have_a_panel_for_each_hyperparameter_of_steps():
    start = {"learning_rate": np.full(5, 0.1), "momentum": 0.5, "l2/*": 0.1}
    learned = {"learning_rate": np.linspace(0.3, 0.1, 5), "momentum": np.float64(0.9)}
    figure = visualization.plot_schedules({"start": start, "learned": learned})
    rates, momenta = figure.axes
    assert (rates.get_ylabel(), momenta.get_ylabel()) == ("learning rate", "momentum")
    assert rates.get_yscale() == "log"
    np.testing.assert_array_equal(rates.lines[1].get_ydata(), learned["learning_rate"])
    np.testing.assert_array_equal(momenta.lines[1].get_ydata(), np.full(5, 0.9))
    assert [text.get_text() for text in rates.get_legend().get_texts()] == ["start", "learned"]


@pytest.mark.parametrize(
    "schedules",
    [{"a": {"momentum": 0.5}}, {"a": {"momentum": np.ones(3)}, "b": {"momentum": np.ones(4)}}],
)
def test_schedules_of_no_or_unequal_lengths_are_an_error(schedules):
    with pytest.raises(ValueError, match="`schedules` must hold"):
        visualization.plot_schedules(schedules)


def test_losses_below_zero_are_drawn_on_a_plain_scale():
    ax = visualization.plot_history({"a": {"loss": [0.5, -0.2, -1.0]}}).axes[0]
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < -1.0


def test_all_runs_have_a_line_however_many_there_are():
    schedules = {str(n): {"learning_rate": np.full(4, 0.1 + n)} for n in range(9)}
    assert len(visualization.plot_schedules(schedules).axes[0].lines) == 9
