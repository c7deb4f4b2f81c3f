# make setup   a virtual environment in .venv with everything that demo and test need
# make demo    demo.mp4: the example portrait speaks the example sentence
# make lint    style, layout and types
# make test    the whole test suite

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.setup-complete

.PHONY: setup demo lint test

setup: $(STAMP)

# torch comes first and alone, so that a CPU index or wheel given to pip decides its build.
$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install torch==2.13.0
	$(VENV)/bin/python -m pip install -e '.[dev]'
	touch $@

demo: setup
	$(VENV)/bin/triportrait animate examples/portrait.png --audio examples/speech.wav -o demo.mp4

lint: setup
	$(VENV)/bin/ruff check src tests scripts benchmarks
	$(VENV)/bin/ruff format --check src tests scripts benchmarks
	$(VENV)/bin/mypy

test: setup
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile
