"""Whatever is passed, a call works or says what was wrong: with the name, the rule and the value.

    pytest tests/test_bad_input.py --hypothesis-profile=full

makes more than 5,000 calls; without the profile some hundreds, the same ones each time.
"""

import gzip

import contract_cases
import keras
import numpy as np
import pytest
from bad_input import ODD_VALUES, arrays, constructors, tell, tell_of
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_extras.datasets import higgs
from keras_extras.datasets.higgs.csv_file import read_events

_CONSTRUCTORS = constructors()
# Without what calls a function that is made for inputs of one shape.
_LAYERS = {case.name: case for case in contract_cases.LAYERS if "Sensitivity" not in case.name}
_MEASURES = {
    f"{type(case).__name__} {case.name}": case
    for case in contract_cases.LOSSES + contract_cases.METRICS
}
_EXAMPLES = settings.default.max_examples

# Integers beyond float32 and the like are rounded, which NumPy and TensorFlow warn of.
pytestmark = pytest.mark.filterwarnings("ignore")


@settings(max_examples=10 * _EXAMPLES)
@given(st.sampled_from(_CONSTRUCTORS), st.data())
def test_constructors(constructor, data):
    some = st.lists(st.sampled_from(constructor.checked), min_size=1, max_size=2, unique=True)
    changed = {name: data.draw(ODD_VALUES, label=name) for name in data.draw(some)}
    thing = tell(lambda: constructor.cls(**{**constructor.arguments, **changed}), *changed)
    if hasattr(thing, "get_config"):
        thing.get_config()


@given(st.sampled_from(_CONSTRUCTORS), st.text("abc_", min_size=1))
def test_unknown_arguments(constructor, name):
    with pytest.raises((TypeError, ValueError), match=name):
        constructor.cls(**{**constructor.arguments, f"no_{name}": 1})


@settings(max_examples=2 * _EXAMPLES)
@given(st.sampled_from(list(_LAYERS)), arrays("str"), st.booleans())
def test_inputs_of_layers(name, inputs, is_own_shape):
    case = _LAYERS[name]
    if is_own_shape:
        inputs = np.full(case.inputs.shape, inputs.flat[0])
    layer = case.make()
    outputs = tell(lambda: layer(inputs))
    if outputs is not None:
        values = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
        assert np.isfinite(values).all()


@settings(max_examples=2 * _EXAMPLES)
@given(st.sampled_from(list(_MEASURES)), arrays(), arrays())
def test_inputs_of_losses_and_metrics(name, y_true, y_pred):
    case = _MEASURES[name]
    head = case.head() if case.head else lambda values: values
    predictions = tell(lambda: head(y_pred))
    if predictions is not None:
        tell(lambda: case.make()(y_true, predictions))


_HEADER = ("EventId", *higgs.FEATURE_NAMES, "Weight", "Label")
_LINE = [*map(str, range(len(_HEADER) - 1)), "s"]
_DAMAGE = st.one_of(
    st.tuples(st.just("field"), st.integers(0, 2), st.integers(0, 32), st.text(max_size=4)),
    st.tuples(
        st.just("field"), st.integers(0, 2), st.integers(0, 32), st.from_regex("-?[0-9]*e?9")
    ),
    st.tuples(st.just("drop"), st.integers(0, 2), st.integers(0, 32)),
    st.tuples(st.just("bytes"), st.integers(0, 900), st.binary(max_size=3)),
    st.tuples(st.just("cut"), st.integers(0, 900)),
)


@settings(max_examples=3 * _EXAMPLES)
@given(damage=st.lists(_DAMAGE, max_size=2), is_gzip=st.booleans(), flipped=st.booleans())
def test_data_files(damage, is_gzip, flipped, tmp_path_factory):
    lines = [list(_HEADER), list(_LINE), list(_LINE)]
    for kind, *places in damage:
        if kind == "field" and places[1] < len(lines[places[0]]):
            lines[places[0]][places[1]] = places[2]
        elif kind == "drop":
            del lines[places[0]][places[1] :]
    content = "\n".join(map(",".join, lines)).encode("utf-8", "surrogatepass")
    for kind, place, *inserted in damage:
        if kind == "bytes":
            content = content[:place] + inserted[0] + content[place:]
        elif kind == "cut":
            content = content[:place]
    path = tmp_path_factory.getbasetemp() / ("events.csv.gz" if is_gzip else "events.csv")
    if is_gzip:
        content = gzip.compress(content)
        if flipped and len(content) > 40:
            content = content[:30] + bytes([content[30] ^ 255]) + content[31:-5]
    path.write_bytes(content)
    events = tell_of(path, lambda: read_events(path))
    if events is not None:
        assert np.isfinite(events.features).all()
        assert np.isfinite(events.weights).all()
        assert set(events.labels) <= {0, 1}
