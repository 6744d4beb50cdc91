# `make help` lists the targets. Each makes the virtual environment it needs; PYTHON=... picks another interpreter
# (its environment is .venv-<version>), DJANGO='django>=6.0,<6.1' a version of Django, ARGS=... is passed on,
# JOBS=... is how many processes share the tests.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Images of Python often set it. The tests start hundreds of processes, and each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
DJANGO ?=
ARGS ?=
JOBS ?= 4

VERSION := $(if $(filter python3,$(PYTHON)),,$(shell $(PYTHON) -c 'import sys; print("-%d.%d" % sys.version_info[:2])'))
VENV := .venv$(VERSION)
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# The packages of Debian that `test-services` works with.
PACKAGES := redis-server postgresql openssl chromium gcc libc6-dev prometheus docker-compose systemd

MARIADB := mariadb-server libmariadb-dev pkg-config gcc libc6-dev
MERMAID := 11.17.2
MERMAID_SHA256 := 581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8

.PHONY: help demo test test-long test-apps test-services test-servers matrix services mariadb check docs format messages bench chaos audit clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## *(.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
	  printf 'make %-14s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.demo  ## a site with real tasks, here, now; ARGS=--once runs it to its end and prints the figures
	@$(BIN)/python -m testproject.demo $(ARGS)

# All of them: side by side, because most of their time they wait for real processes, and with the share of
# django_taskq that ran in any of those. ARGS picks some: one after the other, without that report.
test: $(VENV)/.test  ## the tests that need Python packages only: SQLite, a bundled server, real worker processes
ifeq ($(ARGS),)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -m "not services and not long" -n $(JOBS) --dist worksteal
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
else
	$(BIN)/python -m pytest -m "not services" $(ARGS)
endif

test-long: $(VENV)/.test  ## what takes too long for `make test`, or must have the machine to itself: one after the other
	$(BIN)/python -m pytest -m "long and not services" $(ARGS)

# The second run is the same behaviour once more, on PostgreSQL and on Debian's Redis (tests/broker: see test-servers).
test-services: $(VENV)/.test $(VENV)/.browser services  ## the tests that need Debian's packages, which it installs: PostgreSQL, redis-server, chromium, Prometheus, docker-compose, systemd
	$(BIN)/python -m pytest -m services $(ARGS)
	TASKQ_TEST_SERVER=redis-server $(BIN)/python -m tests.servers --postgres -- \
	  $(CURDIR)/$(BIN)/python -m pytest -m "not services and not long" \
	  tests/api tests/backend tests/outbox tests/periodic tests/records tests/tasks tests/web tests/worker tests/test_shop.py $(ARGS)

# In an environment of their own, because they bring a hundred packages. They need Python 3.13: PYTHON=python3.13.
test-apps: .venv-apps/.apps  ## other people's apps that send through django.tasks, with a worker of ours
	.venv-apps/bin/python -m pytest tests/apps --ds=tests.apps.settings $(ARGS)

.venv-apps/.apps: pyproject.toml
	$(PYTHON) -m venv .venv-apps
	.venv-apps/bin/python -m pip install --quiet --upgrade pip
	.venv-apps/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,apps]'
	@touch $@

# TASKQ_TEST_EXAMPLES=2000 lets the model look further.
test-servers: $(VENV)/.test services  ## the scripts and the model of the queue on Redis 6.2, 7.0, 8.2 and Valkey 9.1 (from wheels, and Debian 12)
	$(BIN)/python -m tests.each_server -- $(ARGS)

# ARGS='--list' names the cells, ARGS='--only mariadb-django5.2' runs one. All of them take more than an hour.
matrix: $(VENV)/.test services mariadb  ## every supported Python, Django, database and server, with a table at the end
	$(BIN)/python -m tests.matrix $(ARGS)

# RUNLEVEL=1: the packages' own services need not run, the tests start theirs.
services:
	@dpkg -s $(PACKAGES) > /dev/null 2>&1 || { \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $(PACKAGES); }

# With what mysqlclient is built from.
mariadb:
	@dpkg -s $(MARIADB) > /dev/null 2>&1 || { \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $(MARIADB); }

check: $(VENV)/.dev  ## style, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# MkDocs would tell of its successors. Mermaid draws the diagrams in the reader's browser, from the site itself.
docs: $(VENV)/.docs .docs/mermaid.min.js  ## the pages of docs/ as a site in build/site; any warning is a failure
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build $(ARGS)

.docs/mermaid.min.js:
	@command -v npm > /dev/null || { echo 'make docs needs npm, once, to fetch Mermaid (Debian: apt-get install npm)' >&2; exit 1; }
	@mkdir -p .docs/npm
	cd .docs/npm && npm pack --silent mermaid@$(MERMAID) && tar -xzf mermaid-$(MERMAID).tgz package/dist/mermaid.min.js
	echo '$(MERMAID_SHA256)  .docs/npm/package/dist/mermaid.min.js' | sha256sum --check --quiet
	mv .docs/npm/package/dist/mermaid.min.js $@
	rm -r .docs/npm

format: $(VENV)/.dev  ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

messages: $(VENV)/.dev  ## collect what is to be translated, and compile it; needs gettext
	cd django_taskq && $(abspath $(BIN))/python ../manage.py makemessages --all --no-wrap --no-location
	cd django_taskq && $(abspath $(BIN))/python ../manage.py compilemessages

bench: $(VENV)/.demo  ## throughput, latency and memory, beside the floor; ARGS=--quick is short
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.test  ## every fault, many times over: what was accepted against what became of it
	$(BIN)/python -m tests.chaos $(ARGS)

# --strict: a package that could not be looked up (not every registry has the data) is a failure, not a pass.
audit: $(VENV)/.dev  ## known vulnerabilities in what is installed
	$(BIN)/python -m pip freeze --exclude-editable | $(BIN)/pip-audit --strict --no-deps --disable-pip -r /dev/stdin $(ARGS)

clean:  ## remove what these targets made
	rm -rf .venv* .matrix .servers .docs .demo .taskq var build dist *.egg-info .coverage* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: EXTRAS := demo,embedded
$(VENV)/.test: EXTRAS := test
$(VENV)/.browser: EXTRAS := test,browser,manifests
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.docs: EXTRAS := docs
$(VENV)/.demo $(VENV)/.test $(VENV)/.browser $(VENV)/.dev $(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' $(if $(DJANGO),'$(DJANGO)')
	@touch $@
