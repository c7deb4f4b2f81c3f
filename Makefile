# make demo    demo.mp4: the example portrait speaks the example sentence; installs what making videos needs, and no more
# make test    the whole test suite; installs the rest
# make lint    style, layout and types
# make setup   the environment of test and lint, in .venv

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PIP := $(VENV)/bin/python -m pip
CORE := $(VENV)/.core-complete
STAMP := $(VENV)/.setup-complete

.PHONY: setup demo lint test

# Python compiles a module when it is first imported; most of what is installed never is.
$(CORE): pyproject.toml requirements/core.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --no-compile --require-hashes -r requirements/core.txt
	$(PIP) install --no-compile --no-deps -e .
	touch $@

# torch comes first and alone, so that a CPU index or wheel given to pip decides its build. Tests start many processes: all is compiled.
$(STAMP): $(CORE) requirements/dev.txt
	$(PIP) install torch==2.13.0
	$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	-$(VENV)/bin/python -m compileall -qq $(VENV)/lib
	touch $@

setup: $(STAMP)

demo: $(CORE)
	$(VENV)/bin/triportrait animate examples/portrait.png --audio examples/speech.wav -o demo.mp4

lint: setup
	$(VENV)/bin/ruff check src tests scripts benchmarks
	$(VENV)/bin/ruff format --check src tests scripts benchmarks
	$(VENV)/bin/mypy

# One thread each: two processes on two cores.
test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal
