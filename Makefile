# Everything runs in .venv, which the first target that needs it creates.
# PYTHON chooses the interpreter (3.10 or newer) that it is made with.
PYTHON ?= python3
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: example test test-all test-jax test-versions lint format docs bench dist clean

example: $(INSTALLED)
	$(BIN)/python examples/higgs_autoencoder.py --out outputs/higgs_autoencoder

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# With those that take too long for each change.
test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --slow
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --slow

test-jax: $(INSTALLED)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2

# Oldest and newest releases that setup.cfg allows, on each Python there is; TESTS=tests runs all.
test-versions:
	$(PYTHON) tests/versions.py --pythons $(PYTHONS) -- $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build --quiet

bench: .venv/peers
	$(BIN)/python benchmarks/derivative_free.py --out outputs/derivative_free
	$(BIN)/python benchmarks/black_box.py --out outputs/black_box
	KERAS_BACKEND=jax $(BIN)/python benchmarks/first_try.py --out outputs/first_try
	$(BIN)/python benchmarks/ridge.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/newton.py
	$(BIN)/python benchmarks/hypergradient_descent.py
	$(BIN)/python benchmarks/large_models.py
	$(BIN)/python benchmarks/hypergradient.py
	$(BIN)/python benchmarks/heads.py --out outputs/heads
	$(BIN)/python benchmarks/bayesian_layers.py --out outputs/bayesian_layers
	$(BIN)/python benchmarks/ivon.py --out outputs/ivon
	$(BIN)/python benchmarks/nuts.py --out outputs/nuts
	$(BIN)/python benchmarks/hmc_trajectories.py --out outputs/hmc_trajectories
	$(BIN)/python benchmarks/laplace.py --out outputs/laplace
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/tuners.py
	$(BIN)/python benchmarks/uci.py --out outputs/uci
	$(BIN)/python benchmarks/out_of_distribution.py
	$(BIN)/python benchmarks/posterior_certificates.py

# Wheel and sdist, and an example with the wheel in an environment of its own, away from here.
dist: $(INSTALLED)
	rm -rf dist outputs/dist
	$(BIN)/python -m build
	$(PYTHON) -m venv outputs/dist/environment
	outputs/dist/environment/bin/python -m pip install --quiet --disable-pip-version-check \
		"keras-extras[data,inference,plots,sklearn,tensorflow] @ file://$$(ls $(CURDIR)/dist/*.whl)"
	cd / && $(CURDIR)/outputs/dist/environment/bin/python \
		$(CURDIR)/examples/higgs_autoencoder.py --fast --out $(CURDIR)/outputs/dist/figures

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/peers: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[peers]"
	touch $@

clean:
	rm -rf .venv outputs build dist *.egg-info
