# The parts of the gate. Each folder's tests are a part of their own, with a Kafka of its own: much of it only waits, so two
# run beside each other, the longest first. How long readers wait is measured alone.
SHELL := bash
ALONE := tests/faults/test_recovery.py
LONGEST := tests/stack tests/faults tests/contract tests/end_to_end export tests/secured tests/page tests/doctor tests/docs
FOLDERS := $(patsubst %/,%,$(sort $(dir $(wildcard tests/*/test_*.py))))
BESIDE := $(LONGEST) site $(filter-out tests/export $(LONGEST),$(FOLDERS))

# What tests need that has to be built; the engine's tools are kept in the user's cache folder.
BUILT := $(filter $(CACHE)/%,$(KUSTOMIZE) $(DOCKER_COMPOSE)) $(if $(shell command -v krb5-config),kerberos)

.PHONY: first beside alone lint export site kerberos $(FOLDERS) $(ALONE)

first: $(BUILT) lint
beside: $(BESIDE)
alone: $(ALONE)

lint:
	$(MAKE) --file Makefile lint

export:
	time $(MAKE) --file Makefile test-export ARGS="-p no:cacheprovider"

site:
	time $(MAKE) --file Makefile docs

$(FOLDERS):
	time $(MAKE) --file Makefile test ARGS="-p no:cacheprovider $@ --ignore=$(ALONE)"

$(ALONE):
	time $(MAKE) --file Makefile test ARGS="-p no:cacheprovider $@"

$(CACHE)/bin/kustomize:
	GOBIN="$(@D)" go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.0

COMPOSE := github.com/docker/compose/v2
COMPOSE_VERSION := 2.40.3
$(CACHE)/tests/docker-compose:
	mkdir -p $(@D)/module
	cd $(@D)/module && rm -f go.mod go.sum && go mod init scratch && go get $(COMPOSE)/cmd@v$(COMPOSE_VERSION) \
		&& go build -trimpath -ldflags "-s -w -X $(COMPOSE)/internal.Version=$(COMPOSE_VERSION)" -o ../docker-compose $(COMPOSE)/cmd

kerberos:
	.venv/bin/python -m pip --disable-pip-version-check install --require-hashes --requirement infra/locks/gssapi.txt
