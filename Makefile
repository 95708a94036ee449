# One definition of clean: what a contributor runs, what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIP := examples/shapes.mp4

.PHONY: install demo test test-slow lint typecheck bench clean

install: $(VENV)/installed

# Pinned to what the tests ran with. Where the index has no build for CPUs alone, torch brings gigabytes
# of GPU libraries: set PIP_EXTRA_INDEX_URL to an index that has one to do without.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,preference,quantize,plot,dev]"
	touch $@

demo: install
	$(BIN)/slowfast describe $(CLIP)
	$(BIN)/slowfast ask $(CLIP) "How does the camera move?"
	$(BIN)/slowfast ask $(CLIP) "Which letter or digit can be read?"

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: install
	$(BIN)/mypy

# The other readers are only there to be compared with.
bench: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torchcodec==0.13.0 decord
	$(BIN)/python benchmarks/report.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
