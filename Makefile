# One list of commands, the same for people and for CI. `make` prints it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := .

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

$(VENV)/.runtime: requirements/runtime.txt requirements/backend.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements/runtime.txt -r requirements/backend.txt
	$(PIP) --no-deps --no-build-isolation --no-index -e .
	touch $@

$(VENV)/.dev: requirements/dev.txt requirements/build.txt $(VENV)/.runtime
	$(PIP) --require-hashes -r requirements/dev.txt -r requirements/build.txt
	touch $@

.PHONY: venv demo run
venv: $(VENV)/.dev ## make the virtual environment from the locks

demo: $(VENV)/.runtime ## serve once with throw-away certificates, show a Pod before and after
	@$(BIN)/podgrace demo

run: $(VENV)/.runtime ## serve on https://localhost:8443 with a local certificate until stopped
	@mkdir -p build/tls && $(BIN)/podgrace certs init --dir build/tls --name localhost
	$(BIN)/podgrace serve --host 127.0.0.1 --cert-dir build/tls --drain-seconds 1

.PHONY: lint types contracts helper
lint: $(VENV)/.dev ## style, as ruff sees it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/.dev ## who may import whom
	$(BIN)/lint-imports

helper: $(VENV)/.dev ## build the in-pod helper for both architectures
	$(MAKE) -C entrypoint PYTHON=$(CURDIR)/$(BIN)/python

FAILED := --last-failed --last-failed-no-failures=none
PYTEST := $(BIN)/pytest -n 4 --dist worksteal --ignore=tests/cluster $(if $(AGAIN),$(FAILED) -n 0)

.PHONY: test unit test-all own-helper
test: lint types contracts own-helper ## minutes, no root, no cluster; says what is missing
	$(PYTEST) -m "not cluster and not slow"

unit: $(VENV)/.dev helper ## every test that needs no cluster (AGAIN=1: only failed ones)
	$(PYTEST) -m "not cluster"

test-all: lint types contracts unit ## all that CI runs, except for the cluster

own-helper: $(VENV)/.dev
	$(MAKE) -s -C entrypoint PYTHON=$(CURDIR)/$(BIN)/python build/podgrace-helper

# Any cluster by KUBECONFIG, with PODGRACE_IMAGE_BUILD and the other settings of
# tests/cluster/conftest.py; or the one beside this checkout.
CLUSTER := $(wildcard $(abspath ../shared/cluster/cluster))
ifneq ($(CLUSTER),)
test-cluster: export KUBECONFIG = $(shell $(CLUSTER) kubeconfig)
test-cluster: export PATH := $(PATH):$(dir $(shell dirname $$($(CLUSTER) kubeconfig)))bin
test-cluster: export PODGRACE_CLIENT = $(CLUSTER) exec $(abspath $(BIN))/podgrace
# Used if it is installed: `cluster addon traefik`. Only the sole owner of a cluster may name the
# command that switches kube-proxy, as .ci/run does.
test-cluster: export PODGRACE_INGRESS = traefik traefik/traefik
test-cluster: export PODGRACE_IMAGE_BUILD = $(CLUSTER) build
test-cluster: export PODGRACE_BASE_IMAGE = localhost/python:3.11
# By default its builds may open 1024 files, and the helper's compiler opens more.
test-cluster: export PODGRACE_IMAGE_OPTIONS = --ulimit nofile=20000:20000
endif
PODGRACE_IMAGE ?= podgrace.test/podgrace:dev
PODGRACE_HELPER_IMAGE ?= podgrace.test/podgrace-helper:dev
export PODGRACE_IMAGE PODGRACE_HELPER_IMAGE

.PHONY: test-cluster
test-cluster: $(VENV)/.dev ## lose no request in a cluster (KUBECONFIG; PODGRACE_FULL=1: longer)
	@test -z "$(CLUSTER)" || $(CLUSTER) up --nodes 2 >/dev/null
	@test -z "$$PODGRACE_IMAGE_BUILD" || \
	for it in "webhook $$PODGRACE_IMAGE" "helper $$PODGRACE_HELPER_IMAGE"; do set -e -- $$it; \
	  echo "building $$2"; $$PODGRACE_IMAGE_BUILD $$2 . --target $$1 $$PODGRACE_IMAGE_OPTIONS \
	    --build-arg PYTHON_IMAGE=$${PODGRACE_BASE_IMAGE:-python:3.11-slim-bookworm} >/dev/null; \
	  test -z "$$PODGRACE_IMAGE_LOAD" || $$PODGRACE_IMAGE_LOAD $$2; done
	$(BIN)/pytest tests/chart/test_cluster.py tests/cluster -n 0 --durations=15 \
	  $(if $(AGAIN),$(FAILED))

build/peer: tests/bench/peer/main.go ## a webhook on controller-runtime, to compare with (needs Go)
	cd tests/bench/peer && go build -o ../../../build/peer .

.PHONY: bench
bench: $(VENV)/.runtime helper ## speed of the webhook and the helper, beside others of their kind
	$(BIN)/python tests/bench/speed.py
	$(BIN)/python -m tests.bench.plan
	$(MAKE) -C entrypoint bench PYTHON=$(CURDIR)/$(BIN)/python

.PHONY: docs
docs: $(VENV)/.dev ## rewrite the parts of the documents that tests hold to the code
	$(BIN)/python -m tests.cli.readme
	$(BIN)/python -m tests.core.docs
	$(BIN)/python -m tests.timeline.docs
	$(BIN)/python -m tests.plan.docs
	$(BIN)/python charts/readme.py

.PHONY: lock
lock: $(VENV)/.dev ## make the locks again from pyproject.toml
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) --extra prove -c requirements/runtime.txt pyproject.toml -o requirements/prove.txt
	for group in backend build dev servers streams; do \
	  $(LOCK) --group $$group -c requirements/runtime.txt -o requirements/$$group.txt; done
