# What a developer or a newcomer types. Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
COMPOSE ?= docker compose
FILES ?= docker-compose.yml
compose = $(COMPOSE) $(addprefix --file ,$(FILES)) $(addprefix --profile ,$(PROFILES))
LOCK := uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-annotate --no-emit-index-url --constraint constraints.txt

.PHONY: help demo up scale down where test test-export soak bench lint lock clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/demo  ## Kafka, worker, listener and producer with a live view; ARGS="--duration 30 --rate 200 --input FILE"
	@$(BIN)/streamgauge demo $(ARGS)

up:  ## The stack in containers; PROFILES="demo ui lag", FILES="docker-compose.yml infra/compose/redpanda.yml"
	$(compose) up --detach --wait --build
	@$(MAKE) --no-print-directory where

scale:  ## So many workers: make scale N=3
	$(compose) up --detach --wait --no-deps --no-recreate --scale worker=$(N) worker
	@$(MAKE) --no-print-directory where

down:  ## End the stack; ARGS=--volumes also throws its data away
	$(COMPOSE) $(addprefix --file ,$(FILES)) --profile '*' down --remove-orphans $(ARGS)

where:
	@echo "Dashboards  http://localhost:3000  Prometheus :9090, Alertmanager :9093, alerts as delivered :9094, mail :8025"
	@echo "Texts       localhost:9092         or: $(COMPOSE) exec worker streamgauge produce 'what a lovely film'"
	@echo "Results     $(COMPOSE) exec worker streamgauge tail results"

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

lock:  ## What the image installs, with hashes, from constraints.txt; needs uv (pip install uv)
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) pyproject.toml --output-file infra/docker/requirements.txt
	echo 'hatchling>=1.27' | UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) - --output-file infra/docker/requirements-build.txt

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
