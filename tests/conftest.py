import os
from pathlib import Path

# Test processes whose linear algebra each spins on all cores hold each other up.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import pytest
from precision import WIDE

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
