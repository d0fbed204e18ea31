# What a developer or a newcomer types. Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt

.PHONY: help demo test test-export soak bench lint clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/demo  ## Kafka, worker, listener and producer with a live view; ARGS="--duration 30 --rate 200 --input FILE"
	@$(BIN)/streamgauge demo $(ARGS)

test: .venv/dev  ## Everything that can run on this machine; ARGS="-k NAME" for a part
	$(BIN)/python -m pytest $(ARGS)

test-export: .venv-export/export  ## `streamgauge export`, with PyTorch in an environment of its own (5 GB)
	.venv-export/bin/python -m pytest tests/export --noconftest $(ARGS)

soak: .venv/dev  ## Hundreds of random faults, half an hour; ARGS="--records N --faults N --nodes N --seed N --json"
	@$(BIN)/python -m tests.faults.soak $(ARGS)

bench: .venv/dev  ## How near the worker comes to the raw model; ARGS="--quick --json FILE --chart FILE.svg --tutorial-python PYTHON"
	@$(BIN)/python -m tests.benchmarks.speed $(ARGS)

lint: .venv/dev  ## Style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## Remove the virtual environment and all caches of tools
	rm -rf .venv .venv-export .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A target's file is written last: an interrupted installation is done again.
.venv/demo: pyproject.toml constraints.txt
	@echo "setting up .venv (once; about 200 MB)"
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[embedded]'
	@touch $@

.venv/dev: .venv/demo
	$(PIP) --editable '.[embedded,dev]'
	@touch $@

.venv-export/export: pyproject.toml constraints-export.txt
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/python -m pip --disable-pip-version-check install --constraint constraints-export.txt \
		--editable '.[export]' pytest pytest-asyncio pytest-timeout
	@touch $@
