import os
from pathlib import Path

# Test processes whose linear algebra each spins on all cores hold each other up.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import keras
import pytest

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


@pytest.fixture(autouse=True)
def fresh_keras_state():
    """Names, random seeds and dtype policy do not leak from test to test."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(20)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def float64():
    """Variables, layers and losses in double precision, in which differences are precise."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture(scope="session")
def atlas_csv() -> Path:
    """18,000 real events in the open-data format, where this machine has them."""
    path = SHARED_DATA / "higgs" / "atlas_higgs_sample.csv.gz"
    if not path.exists():
        pytest.skip(f"needs the real Higgs events at {path}")
    return path
