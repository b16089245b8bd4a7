import collections
import gc
import os
from pathlib import Path

# Test processes whose linear algebra each spins on all cores hold each other up.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import keras
import pytest
from browser import Browser, find_browser
from precision import ON_JAX, WIDE

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# The same calls each time and in little time; `--hypothesis-profile=full` makes many more.
_ci = hypothesis.settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.register_profile("ci", _ci)
hypothesis.settings.register_profile("full", _ci, max_examples=400, derandomize=False)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run also the tests marked `slow`")


def pytest_ignore_collect(collection_path):
    """On JAX a file without a test for both backends is not even imported."""
    is_module = ON_JAX and collection_path.suffix == ".py"
    return True if is_module and "both_backends" not in collection_path.read_text() else None


def pytest_collection_modifyitems(config, items):
    def is_run(item):
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            return False
        return not ON_JAX or item.get_closest_marker("both_backends") is not None

    chosen = list(filter(is_run, items))
    if ON_JAX and not config.getoption("--slow"):
        chosen = _some_cases(chosen)
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


def _some_cases(items):
    """As many cases of each test as `both_backends(cases=...)` says, evenly spread."""
    cases = collections.defaultdict(list)
    for item in items:
        cases[item.path, getattr(item, "cls", None), item.originalname].append(item)
    kept = set()
    for of_test in cases.values():
        most = of_test[0].get_closest_marker("both_backends").kwargs.get("cases", len(of_test))
        count = min(most, len(of_test))
        kept.update(
            of_test[round(n * (len(of_test) - 1) / max(count - 1, 1))] for n in range(count)
        )
    return [item for item in items if item in kept]


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """What was imported, and what earlier files left, is passed over in the search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras_state():
    """Names, random seeds, dtype policy and backend do not leak from test to test."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(20)
    policy = keras.config.dtype_policy()
    backend = os.environ.get("KERAS_BACKEND")
    yield
    assert os.environ.get("KERAS_BACKEND") == backend, "Processes to come would use another backend"
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def float64():
    """Variables, layers and losses in double precision, where the backend has one."""
    keras.config.set_floatx(WIDE)
    keras.config.set_dtype_policy(WIDE)
    yield
    keras.config.set_floatx("float32")


@pytest.fixture(scope="session")
def atlas_csv() -> Path:
    """18,000 real events in the open-data format, where this machine has them."""
    path = SHARED_DATA / "higgs" / "atlas_higgs_sample.csv.gz"
    if not path.exists():
        pytest.skip(f"needs the real Higgs events at {path}")
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium, where this machine has one."""
    executable = find_browser()
    if executable is None:
        pytest.skip("needs Chromium, e.g. apt-get install chromium")
    browser = Browser(executable, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()
