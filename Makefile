# One definition of clean: what a contributor runs, what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS := examples/photos.mp4
SHAPES := examples/shapes.mp4

OLDEST_TRANSFORMERS := 5.20.0
NEWEST_TRANSFORMERS := 5.24.0

.PHONY: install demo test test-slow test-compat lint typecheck bench clean

install: $(VENV)/installed

# Pinned to what the tests ran with. Where the index has no build for CPUs alone, torch brings gigabytes
# of GPU libraries: set PIP_EXTRA_INDEX_URL to an index that has one to do without.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,preference,cpu,export,quantize,plot,cuts,serve,schema,dev]"
	touch $@

demo: install
	$(BIN)/slowfast events $(PHOTOS)
	$(BIN)/slowfast ask $(PHOTOS) "Is there a cat?"
	$(BIN)/slowfast ask $(PHOTOS) "How many cuts are there?"
	$(BIN)/slowfast ask $(SHAPES) "Which letter or digit can be read?"

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

# What depends on transformers, with the oldest and the newest version that pyproject.toml admits.
test-compat: install
	for version in $(OLDEST_TRANSFORMERS) $(NEWEST_TRANSFORMERS); do \
	  beside=$(CURDIR)/$(VENV)/transformers-$$version; \
	  test -d $$beside || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --target $$beside transformers==$$version || exit 1; \
	  PYTHONPATH=$$beside:$(CURDIR)/src $(BIN)/python -m pytest \
	    tests/model tests/processing tests/engine || exit 1; \
	done

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
