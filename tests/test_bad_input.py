"""Whatever is passed, a call works or says what was wrong: with the name, the rule and the value.

    pytest tests/test_bad_input.py --hypothesis-profile=full

makes more than 5,000 calls; without the profile some hundreds, the same ones each time.
"""

import pytest
from bad_input import ODD_VALUES, constructors, tell
from hypothesis import given, settings
from hypothesis import strategies as st

_CONSTRUCTORS = constructors()
_EXAMPLES = settings.default.max_examples
pytestmark = pytest.mark.filterwarnings("ignore")


@settings(max_examples=10 * _EXAMPLES)
@given(st.sampled_from(_CONSTRUCTORS), st.data())
def test_constructors(constructor, data):
    some = st.lists(st.sampled_from(constructor.checked), min_size=1, max_size=2, unique=True)
    changed = {name: data.draw(ODD_VALUES, label=name) for name in data.draw(some)}
    arguments = {**constructor.arguments, **changed}
    thing = tell(lambda: constructor.cls(**arguments), *changed)
    if hasattr(thing, "get_config"):
        config = thing.get_config()
        assert set(constructor.arguments) <= set(config)
