# Two doors: `make demo` sets up and runs the main job, `make test` sets up and passes the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# A file of tests stays on one worker, since its models are set up once; the products use one thread in each.
WORKERS ?= -n 2 --dist loadfile
SOURCES := $(shell find describe eval prompts data -type f -not -name '*.pyc')

.PHONY: demo test fast lint coverage bench clean

demo: $(VENV)/.installed
	$(BIN)/describe run smollm2

test: $(VENV)/.installed lint
	$(BIN)/pytest $(WORKERS)

fast: $(VENV)/.installed
	$(BIN)/pytest $(WORKERS) -m "not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(VENV)/.installed
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

bench: $(VENV)/.installed
	$(BIN)/describe bench

# Dependencies at the tested versions; the package itself as the wheel that users get, not the checkout.
$(VENV)/.installed: $(VENV)/.ready $(SOURCES) pyproject.toml README.md
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/pip install --quiet --no-deps --force-reinstall dist/head_descriptions-*.whl
	touch $@

$(VENV)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev .
	touch $@

clean:
	rm -rf $(VENV) dist
