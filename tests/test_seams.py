"""The canaries of the seams: each fails when a new version changes what a seam stands on.

Those that need a training, a search or another process are in the files of their subject, and are
listed here.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import pkgutil
import textwrap
import threading
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from precision import needs_tensorflow
from private_names import is_private

import keras_extras
from keras_extras._seams import (
    epoch_iterator,
    fit_arguments,
    layer_calls,
    layers_within,
    metric_direction,
    optimizer_variables,
    stateless_scopes,
    symbolic_build,
    train_function,
)
from keras_extras._seams.wrapped_methods import is_wrapped, owner_of, unwrap, wrap_once

HERE = Path(__file__).parent
CANARIES = {
    "compile_arguments": "test_step_compilation:test_canary_compile_asks_keras_to_choose",
    "compute_loss": "test_compile_seam:test_canary_keras_calls_the_two_methods_with_distributions",
    "epoch_iterator": "test_resumed_data:test_goes_on_with_what_comes_next",
    "fit_arguments": "test_seams:test_fit_is_called_with_its_arguments",
    "fit_hook": "test_fit_hook:test_the_trainer_has_what_the_seam_wraps_and_uses",
    "fit_hook.jax": "test_on_jax:test_minimize_in_a_compiled_step_is_minimize_in_an_eager_one",
    "fit_hook.tensorflow": "test_replicas:test_two_devices_train_as_one",
    "gradient_registry": "test_second_derivatives:"
    "test_tensorflow_registers_gradients_where_they_are_looked_up",
    "held_distributions": "test_tensor_distribution:test_tfp_asks_it_where_another_holds_it",
    "interpreter_flags": "test_seams:test_options_of_python",
    "jax_substrate": "test_tensor_distribution:test_tfp_is_imported_by_a_jax_without_its_tables",
    "layer_calls": "test_seams:test_calls_of_layers_are_replaced_in_one_thread",
    "layer_inputs": "test_tensor_distribution:test_layers_of_keras_get_arrays_on_jax",
    "layers_within": "test_seams:test_layers_within_layers",
    "low_rank_kernels": "test_low_rank:test_the_layers_still_pass_through_the_seam",
    "metric_direction": "test_seams:test_callbacks_look_for_the_direction",
    "optimizer_variables": "test_seams:test_optimizers_know_their_variables",
    "poisson_draws": "test_heads:test_draws_of_counts_compile_after_shapes_were_inferred",
    "products_of_two_axes": "test_vectorized_map:test_products_are_those_of_tensorflow",
    "repeated_dataset": "test_seams:test_pipelines_say_what_they_are_made_of",
    "sample_weights": "test_seams:test_weights_of_rows",
    "scores": "test_metrics_of_keras:test_canary_metrics_of_keras_are_wrapped",
    "stateless_scopes": "test_seams:test_scopes_hold_values",
    "symbolic_build": "test_seams:test_fit_builds_makes_its_function_and_shows_its_data",
    "thread_replacement": "test_threads:test_blocks_of_two_threads_overlap",
    "train_function": "test_seams:test_fit_builds_makes_its_function_and_shows_its_data",
    "train_state": "test_on_jax:test_an_error_in_the_first_step_leaves_the_model_its_weights",
    "tuner_construction": "test_taking_up:"
    "test_another_library_may_wrap_the_constructor_before_and_after",
    "tuner_state": "test_taking_up:test_a_grid_that_is_resumed_visits_all_and_nothing_twice",
    "twice_differentiable": "test_second_derivatives:test_resizing_gives_the_images_of_tensorflow",
    "whole_states": "test_taking_up:test_what_a_search_writes_is_whole",
    "wrapped_methods": "test_wrapped_methods:test_ours_is_known_by_its_identity",
}
# Methods that TFP's distributions document for their children.
OF_TFP = {"_entropy", "_log_prob", "_mode", "_parameter_properties", "_sample_n"}
X = np.linspace(-1.0, 1.0, 24, dtype="float32").reshape(8, 3)


class Doubling(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(2)

    def call(self, x):
        return 2.0 * self.inner(x)


def make_model(optimizer="sgd", **arguments):
    model = keras.Sequential([keras.Input((3,)), Doubling()])
    model.compile(optimizer, "mse", **arguments)
    return model


@pytest.mark.both_backends
def test_each_seam_has_a_canary():
    folder = Path(keras_extras.__file__).parent / "_seams"
    files = [path.relative_to(folder).with_suffix("").parts for path in folder.rglob("*.py")]
    names = {".".join(parts).removesuffix(".__init__") for parts in files} - {"__init__"}
    assert set(CANARIES) == names
    for canary in CANARIES.values():
        file, _, name = canary.partition(":")
        assert f"\ndef {name}(" in Path(HERE, f"{file}.py").read_text(), canary


@pytest.mark.both_backends
def test_wrappers_are_taken_off_again():
    class Base:
        def method(self):
            return 1

    class Child(Base):
        pass

    stock = Base.method
    for key in ("one", "two", "two"):
        wrap_once(Child, "method", lambda stock: lambda self: stock(self) + 1, key)
    assert Child().method() == Base().method() == 3
    assert owner_of(Child, "method") is Base
    unwrap(Child, "method")
    assert Base.method is stock
    assert not is_wrapped(Base.method, "one")


@pytest.fixture
def stock_trainer():
    """Keras' trainer without our wrappers, which other tests find again as they were."""
    functions = ("make_train_function", "make_test_function", "make_predict_function")
    names = ("fit", *functions, symbolic_build.symbolic_build_name())
    owners = [(owner_of(keras.Model, name), name) for name in names]
    before = [getattr(owner, name) for owner, name in owners]
    yield
    for (owner, name), method in zip(owners, before):
        setattr(owner, name, method)


@pytest.mark.both_backends
def test_fit_is_called_with_its_arguments(stock_trainer):
    seen = []

    @contextlib.contextmanager
    def around(model, arguments):
        seen.append((arguments["x"].shape, arguments["steps_per_epoch"], arguments["epochs"]))
        arguments["epochs"] = 2
        yield
        seen.append(len(model.history.epoch))

    fit_arguments.surround_fit("test", around)
    make_model().fit(X, X[:, :2], epochs=1, verbose=0)
    assert seen == [((8, 3), None, 1), 2]


@pytest.mark.both_backends
def test_evaluations_and_predictions_ask_each_time(stock_trainer):
    calls = []
    train_function.before_evaluation("test", calls.append)
    model = make_model()
    for _ in range(2):
        model.predict(X, verbose=0)
    model.evaluate(X, X[:, :2], verbose=0)
    assert len(calls) == 3
    assert all(call is model for call in calls)


@pytest.mark.both_backends
def test_fit_builds_makes_its_function_and_shows_its_data(stock_trainer):
    calls = []
    symbolic_build.wrap_symbolic_build(
        lambda stock: (
            lambda self, iterator=None, data_batch=None: (
                calls.append(("build", iterator is not None)),
                stock(self, iterator=iterator, data_batch=data_batch),
            )[1]
        ),
        "test",
    )
    train_function.watch_train_functions(
        "test",
        lambda model: calls.append(("before", model.train_function)),
        lambda model: calls.append(("made", callable(model.train_function))),
    )
    epoch_iterator.remember_epoch_iterators()
    model = make_model()

    class Looking(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            iterator = epoch_iterator.epoch_iterator_of(model)
            batch = epoch_iterator.first_batch_of(iterator)
            calls.append([leaf.shape for leaf in keras.tree.flatten(batch)])
            assert epoch_iterator.dataset_of(iterator) is None
            assert not epoch_iterator.reads_generator(iterator)

    for _ in range(2):
        model.fit(X, X[:, :2], batch_size=8, verbose=0, callbacks=[Looking()])
    shapes = [(8, 3), (8, 2)]
    assert calls[:4] == [("build", True), ("before", None), ("made", True), shapes]
    assert [call[0] for call in calls].count("made") == 1
    assert calls[-1] == shapes


@pytest.mark.both_backends
def test_layers_within_layers():
    model = make_model()
    found = layers_within.layers_within(model)
    assert {model, model.layers[0], model.layers[0].inner} <= set(found)
    without = types.SimpleNamespace(layers=model.layers)
    assert layers_within.layers_within(without) == [without, *model.layers]


@pytest.mark.both_backends
def test_calls_of_layers_are_replaced_in_one_thread():
    model = make_model()
    layer, expected = model.layers[0], ops.convert_to_numpy(model(X))
    others = []
    with layer_calls.replaced_calls([layer], lambda layer, call: lambda x: -call(x)):
        ours = ops.convert_to_numpy(model(X))
        thread = threading.Thread(target=lambda: others.append(ops.convert_to_numpy(model(X))))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(ours, -expected)
    np.testing.assert_array_equal(others[0], expected)
    assert "call" not in vars(layer)


@pytest.mark.both_backends
def test_scopes_hold_values():
    assert stateless_scopes.current_scope() is None
    one, two = keras.Variable(1.0), keras.Variable(2.0)
    with keras.StatelessScope([(one, ops.ones(()))]) as outer:
        assert stateless_scopes.current_scope() is outer
        two.assign(3.0)
        assert len(stateless_scopes.values_in(outer)) == 2
        with keras.StatelessScope([(one, ops.zeros(()))]) as inner:
            stateless_scopes.inherit_values(inner)
            assert (float(one.value), float(two.value)) == (0.0, 3.0)
    assert float(two.value) == 2.0


@pytest.mark.both_backends
def test_optimizers_know_their_variables():
    optimizer, variables = keras.optimizers.SGD(), [keras.Variable(0.0), keras.Variable(1.0)]
    optimizer.build(variables)
    found = optimizer_variables.trained_variables(optimizer)
    assert [id(v) for v in found] == [id(v) for v in variables]
    assert [optimizer_variables.index_of(optimizer, v) for v in variables] == [0, 1]


@pytest.mark.both_backends
@pytest.mark.parametrize("direction", ["up", "down"])
def test_callbacks_look_for_the_direction(direction):
    """The value grows: to stop at once, it has to be one that should fall."""

    class Growing(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="growing")
            metric_direction.set_direction(self, direction)
            self.count = self.add_variable((), "zeros", name="count")

        def update_state(self, *args, **kwargs):
            self.count.assign_add(1.0)

        def result(self):
            return ops.copy(self.count)

        def reset_state(self):
            pass

    stopping = keras.callbacks.EarlyStopping("growing", patience=1, mode="auto")
    history = make_model(metrics=[Growing()]).fit(
        X, X[:, :2], epochs=4, verbose=0, callbacks=[stopping]
    )
    assert len(history.epoch) == (4 if direction == "up" else 2)


def test_pipelines_say_what_they_are_made_of():
    import tensorflow as tf

    from keras_extras._seams.repeated_dataset import (
        chance_in,
        is_repeatable,
        rows_of_batches,
        rows_of_one_pass,
    )

    data = tf.data.Dataset.from_tensor_slices(X)
    batches = data.batch(5)
    assert (rows_of_batches(batches), rows_of_one_pass(batches, lambda: 5)) == (5, None)
    assert rows_of_one_pass(data.repeat().batch(5), lambda: 5) == 8.0
    assert chance_in(batches) is None
    tf.random.set_seed(None)  # else a seed comes from that of the test
    for chance in (data.shuffle(8), data.map(lambda x: x + tf.random.normal((3,)))):
        assert "without a seed" in chance_in(chance)
    assert chance_in(data.shuffle(8, seed=1)) is None
    python = data.map(lambda x: tf.py_function(lambda x: x, [x], tf.float32))
    assert "Python functions" in chance_in(python)
    assert (is_repeatable(batches), is_repeatable(python)) == (True, False)


@pytest.mark.both_backends
def test_weights_of_rows():
    pytest.importorskip("sklearn")
    from keras_extras._seams.sample_weights import check_sample_weight

    np.testing.assert_array_equal(check_sample_weight(None, X), np.ones(8))
    assert check_sample_weight(range(8), X).dtype == "float64"
    for wrong in (-np.ones(8), np.ones(7)):
        with pytest.raises(ValueError, match=r"[Nn]egative|sample_weight"):
            check_sample_weight(wrong, X)


@pytest.mark.both_backends
def test_options_of_python():
    from keras_extras._seams.interpreter_flags import interpreter_flags

    assert all(isinstance(flag, str) for flag in interpreter_flags())


def test_no_class_shares_a_private_name_with_its_bases():
    """Neither on purpose nor by chance; the seams and what TFP documents aside."""
    shared = {}
    for cls in our_classes():
        ours = [base for base in cls.__mro__ if is_ours(base)]
        others = [base for base in cls.__mro__ if not is_ours(base) and base is not object]
        ours = [base for base in ours if "._seams." not in base.__module__]
        names = set().union(*map(private_names, ours)) & set().union(*map(private_names, others))
        # Their metaclasses give them these.
        names -= {"_abc_impl", "_convert_variables_to_tensors", "_type_spec", *OF_TFP}
        if names:
            shared[cls.__name__] = names
    assert shared == {}


def is_ours(cls):
    return cls.__module__.startswith("keras_extras")


def our_classes():
    found = {}
    for module in pkgutil.walk_packages(keras_extras.__path__, "keras_extras."):
        if module.name.endswith((".worker_program", ".jax")):
            continue
        members = vars(importlib.import_module(module.name)).values()
        found |= {id(cls): cls for cls in members if inspect.isclass(cls) and is_ours(cls)}
    return found.values()


@functools.cache
def private_names(cls):
    """Those of its attributes, and of what its methods use of `self`."""
    names = set(vars(cls))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):  # Without source.
        return set(filter(is_private, names))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    names |= {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls")}
    return set(filter(is_private, names))


@needs_tensorflow
def test_optimizers_of_keras_sum_gradients_of_replicas_by_one_method():
    from keras_extras._seams.fit_hook.tensorflow import gradients_of_all

    name, summed = "_all_reduce_sum_gradients", []
    optimizer, variable = keras.optimizers.SGD(1.0), keras.Variable(3.0)
    vars(optimizer)[name] = lambda pairs: summed.append(len(pairs)) or pairs
    optimizer.apply([ops.ones(())], [variable])
    assert (summed, float(variable)) == ([1], 2.0)
    with gradients_of_all([optimizer]):
        assert getattr(optimizer, name) is list
    assert name not in vars(optimizer)
