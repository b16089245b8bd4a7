# Everything runs in .venv, which the first target that needs it creates.
# PYTHON chooses the interpreter (3.10 or newer) that it is made with.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: example test test-jax lint format docs bench clean

example: $(INSTALLED)
	$(BIN)/python examples/higgs_autoencoder.py --out outputs/higgs_autoencoder

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-jax: $(INSTALLED)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build --quiet

bench: .venv/peers
	$(BIN)/python benchmarks/derivative_free.py --out outputs/derivative_free
	$(BIN)/python benchmarks/black_box.py --out outputs/black_box
	$(BIN)/python benchmarks/ridge.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/newton.py
	$(BIN)/python benchmarks/hypergradient_descent.py
	$(BIN)/python benchmarks/large_models.py
	$(BIN)/python benchmarks/hypergradient.py
	$(BIN)/python benchmarks/heads.py --out outputs/heads
	$(BIN)/python benchmarks/bayesian_layers.py --out outputs/bayesian_layers
	$(BIN)/python benchmarks/nuts.py --out outputs/nuts
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/uci.py --out outputs/uci

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/peers: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[peers]"
	touch $@

clean:
	rm -rf .venv outputs build dist *.egg-info
