# What a developer or a newcomer types. Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
COMPOSE ?= docker compose
FILES ?= docker-compose.yml
compose = $(COMPOSE) $(addprefix --file ,$(FILES)) $(addprefix --profile ,$(PROFILES))
SBOM ?= dist/sbom.cdx.json
TOOLS := .venv-tools/bin
LOCKS := infra/docker/requirements.txt infra/docker/requirements-build.txt $(sort $(wildcard infra/locks/*.txt))
# `make lock ARGS=--upgrade` raises versions, ARGS="--upgrade-package NAME" one; otherwise those stay that fit pyproject.toml.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 \
	--only-binary :all: --no-annotate --no-emit-index-url $(ARGS)
LOCK = $(COMPILE) --generate-hashes
# What an editable installation is built with.
BUILD := hatchling editables
DOCS := .venv-docs/bin
# An extra that tests need is named here, and one that the image should have in IMAGE_EXTRAS.
IMAGE_EXTRAS := oauth msk
DEMO_EXTRAS := embedded app
DEV_EXTRAS := embedded app oauth msk dev
extras = $(addprefix --extra ,$(1))
# Of an environment's folder: made with a Python that is not too old for what is locked, which pip would not say.
define made
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Streamgauge needs Python 3.11 or later, and \
	$(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@$(PYTHON) -m venv $(1)
endef
# Of an environment's folder and its lock.
define installed
	@$(1)/bin/python infra/installing.py $(1) $(2)
endef

.PHONY: help demo up scale down where test test-export soak fuzz bench docs statistics lint lock audit sbom clean

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

fuzz: .venv/dev  ## Hostile input of all kinds, 5 minutes; ARGS="--seed N --scale 0.1 --targets NAME --case N"
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: .venv/dev  ## How near the worker comes to the raw model; ARGS="--quick --json FILE --chart FILE.svg --tutorial-python PYTHON"
	@$(BIN)/python -m tests.benchmarks.speed $(ARGS)

statistics: .venv/dev  ## Intervals and alarms over simulated years, as tables; ARGS="--streams N --years N --texts FILE"
	@$(BIN)/python -m tests.statistics $(ARGS)

lint: .venv/dev  ## Style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv-docs/docs  ## The site of the documentation, in dist/docs; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build $(ARGS)

lock: .venv-tools/tools  ## All versions and hashes anew from pyproject.toml; ARGS=--upgrade raises them
	printf '%s\n' $(BUILD) | $(COMPILE) pyproject.toml $(call extras,$(DEV_EXTRAS)) - --output-file constraints.txt
	$(LOCK) --constraint constraints.txt pyproject.toml $(call extras,$(IMAGE_EXTRAS)) --output-file infra/docker/requirements.txt
	echo hatchling | $(LOCK) --constraint constraints.txt - --output-file infra/docker/requirements-build.txt
	printf '%s\n' $(BUILD) | $(LOCK) --constraint constraints.txt pyproject.toml $(call extras,$(DEMO_EXTRAS)) - --output-file infra/locks/demo.txt
	printf '%s\n' $(BUILD) | $(LOCK) --constraint constraints.txt pyproject.toml $(call extras,$(DEV_EXTRAS)) - \
		--output-file infra/locks/dev.txt
	printf '%s\n' $(BUILD) pytest pytest-asyncio pytest-timeout | $(LOCK) pyproject.toml --extra export - \
		--output-file infra/locks/export.txt
	printf '%s\n' 'mkdocs<2' 'mkdocs-material<10' | $(LOCK) - --output-file infra/locks/docs.txt
	echo gssapi | $(LOCK) - --output-file infra/locks/gssapi.txt
	printf '%s\n' pip-audit uv | $(LOCK) - --output-file infra/locks/tools.txt

audit: .venv-tools/tools  ## Known vulnerabilities of all locked versions; it fails as well when the index cannot tell
	@failed=; for lock in $(LOCKS); do \
		echo "== $$lock"; $(TOOLS)/pip-audit --strict --disable-pip --progress-spinner off --requirement $$lock || failed=1; done; \
	test -z "$$failed" || { echo "audit: NOT CLEAN: a version above is vulnerable, or the index did not tell whether it is" >&2; exit 1; }

sbom: .venv/dev  ## The image's bill of materials, as CycloneDX; SBOM=FILE
	$(BIN)/python -m infra.sbom $(SBOM)

clean:  ## Remove the virtual environments and all caches of tools
	rm -rf .venv .venv-docs .venv-export .venv-tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A target's file is written last: an interrupted installation is done again.
.venv/demo: pyproject.toml infra/locks/demo.txt
	@echo "setting up .venv (once; about 800 MB)"
	$(call made,.venv)
	$(call installed,.venv,infra/locks/demo.txt)
	@touch $@

.venv/dev: .venv/demo infra/locks/dev.txt
	$(call installed,.venv,infra/locks/dev.txt)
	@touch $@

.venv-export/export: pyproject.toml infra/locks/export.txt
	$(call made,.venv-export)
	$(call installed,.venv-export,infra/locks/export.txt)
	@touch $@

.venv-tools/tools: infra/locks/tools.txt
	$(call made,.venv-tools)
	$(TOOLS)/python -m pip --disable-pip-version-check install --require-hashes --only-binary :all: --requirement $<
	@touch $@

.venv-docs/docs: infra/locks/docs.txt
	$(PYTHON) -m venv .venv-docs
	$(DOCS)/python -m pip --disable-pip-version-check install --require-hashes --only-binary :all: --requirement $<
	@touch $@
