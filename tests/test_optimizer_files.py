"""Models with optimizers of ours in the legacy format, whose loader builds them for no weights."""

import keras
import numpy as np
import pytest
from contract_cases import OPTIMIZERS

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: case.name)
def test_training_goes_on_after_an_h5_file(case, tmp_path):
    """With the weights of the file, and a fresh optimizer where its state cannot be read."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    if case.quantization is not None:
        model.layers[0].quantize(case.quantization)
    model.compile(case.make(), keras.losses.MeanSquaredError(), run_eagerly=True)
    model.fit(X, X[:, :1], batch_size=16, verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    assert type(loaded.optimizer) is type(model.optimizer)
    for ours, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    # `compile` of the loader builds searches of integers, so that their state is read.
    is_built = case.quantization is not None
    if not is_built:
        assert not loaded.optimizer.built
        with pytest.raises(ValueError, match="not yet been built"):
            loaded.optimizer.set_weights([np.zeros(())])
    loaded.run_eagerly = True
    loaded.fit(X, X[:, :1], batch_size=16, verbose=0)
    assert int(loaded.optimizer.iterations) == 1 + is_built
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
