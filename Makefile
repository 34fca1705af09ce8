# `make run` needs python3 (3.11 or newer) and make; all else is made here, in .venv.

VERSIONS := 3.11 3.12 3.13
CONFIG ?= conf/demo.toml
FUZZ_SECONDS ?= 600
CHAOS_SECONDS ?= 600
CHAOS_KILLS ?= 200
BIN := .venv/bin
MAKEFLAGS += --no-print-directory --no-builtin-rules
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:

# What each version of Python is asked: new enough, and able to make an environment?
OLD_OR_NOT := import sys; sys.exit(sys.version_info < (3, 11))
ABLE_OR_NOT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
# $(call first,QUESTION,CANDIDATES): the first of them that says yes. A name on PATH may lead nowhere.
first = $(shell for python in $(2); do "$$python" -c '$(1)' 2>/dev/null && echo "$$python" && break; done)
CANDIDATES = $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
BASE = $(or $(call first,$(ABLE_OR_NOT),$(CANDIDATES)),$(NO_BASE))
NO_BASE = $(if $(call first,$(OLD_OR_NOT),$(CANDIDATES)),$(error this Python cannot make \
	environments: install its venv package (Debian: apt install python3-venv)),$(error no Python 3.11 \
	or newer among: $(CANDIDATES). Name one: make PYTHON=/path/to/python3.12))
# $(call versioned,3.12): a working python3.12 on PATH or of pyenv, or nothing.
versioned = $(call first,$(ABLE_OR_NOT),python$(1) "$$HOME"/.pyenv/versions/$(1).*/bin/python)
OWN = $(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# The editable install links file by file, below build/: a new file, or a lost build/, asks for it again.
FILES := $(shell find plane_tx twistd_plugins -type f ! -name '*.py[co]' ! -name dropin.cache \
	| LC_ALL=C sort | cksum | cut -d ' ' -f 1)
INPUTS := setup.cfg pyproject.toml constraints.txt
DEV := [test,lint,docs]
# What the tests of core and tap need; the others would double the time this takes.
ELSEWHERE := hypothesis pytest pytest-twisted
# $(call install,ENVIRONMENT,EXTRAS)
install = $(1)/bin/python -m pip install -qq --disable-pip-version-check \
	--constraint constraints.txt --editable '.$(2)'
# With tests/measure on the path a twistd that a test stops still tells what it ran.
MEASURE := PYTHONPATH=$(CURDIR)/tests/measure $(BIN)/coverage run

help: ## list these targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1 - /p' Makefile | while IFS= read -r line; \
		do printf 'make %-11s %s\n' "$${line%% - *}" "$${line#* - }"; done

run: build/.run-$(FILES) ## start the server with CONFIG=conf/demo.toml; Ctrl-C stops it
	@exec $(BIN)/twistd --nodaemon --pidfile= plane --config $(CONFIG)

EXAMPLES := $(patsubst examples/%/plane.toml,example-%,$(wildcard examples/*/plane.toml))
$(EXAMPLES): CONFIG = examples/$(@:example-%=%)/plane.toml
# ON=IMAGE builds it on another image than its recipe names, such as one of your own registry.
# What asks for an example's sessions, where that is no page, is its app.py: it ends with the server.
$(EXAMPLES): example-%: build/.run-$(FILES)
	docker build --tag plane-tx/$* $(if $(ON),--build-arg BASE=$(ON)) examples/$*
	@$(if $(wildcard examples/$*/app.py),$(BIN)/python examples/$*/app.py &) \
		exec $(BIN)/twistd --nodaemon --pidfile= plane --config $(CONFIG)

examples: ## list the examples: `make example-NAME` builds the image of one and runs it, in Docker
	@printf 'make %s\n' $(EXAMPLES)

check: build/.dev-$(FILES) ## lint, formatting, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

test: build/.dev-$(FILES) ## all tests, with what they need put in place where that can be done
	@tests/provision.sh
	$(BIN)/coverage erase
	@$(MAKE) environments
	@$(MAKE) --jobs=2 SIDE_BY_SIDE=yes test-here test-elsewhere
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report $(if $(filter true,$(CI)),,--fail-under=0)

# All that use Docker, and mostly wait for it.
APART := tests/browser tests/chaos tests/conf tests/engines tests/examples tests/plane tests/test_end_to_end.py

test-here:
	$(MEASURE) -m pytest $(APART:%=--ignore=%)
	@$(MAKE) SIDE_BY_SIDE= pythons

# What fills the other core meanwhile; it is shown when it has ended, so that two do not speak at once.
test-elsewhere:
	@$(MAKE) SIDE_BY_SIDE= test-apart test-asyncio >build/elsewhere.txt 2>&1; \
		ended=$$?; cat build/elsewhere.txt; exit $$ended

test-apart:
	$(MEASURE) -m pytest $(APART)

test-asyncio:
	$(MEASURE) -m pytest -m reactor --reactor=asyncio

OTHERS = $(filter-out $(OWN),$(VERSIONS))

# One after the other and before any test runs: each renews the links below build/ that all import.
environments:
	$(foreach version,$(OTHERS),$(if $(call versioned,$(version)),@$(MAKE) build/.on-$(version)-$(FILES)$(newline)))

pythons: build/.dev-$(FILES) ## the tests of core and tap on each other Python found
	$(foreach version,$(OTHERS),$(if $(call versioned,$(version)),\
		@$(MAKE) python-$(version),@echo 'left out: Python $(version), not found on PATH or in ~/.pyenv')$(newline))

python-%: build/.on-%-$(FILES)
	.venv-$*/bin/python -m pytest tests/core $(wildcard tests/test_tap.py)

conformance: build/.dev-$(FILES) ## the whole Autobahn Testsuite, an hour; written to docs/conformance.md
	@tests/conformance/provide.sh
	@$(BIN)/python -m tests.conformance.whole

screenshots: build/.dev-$(FILES) ## take the pictures of README.md and docs/ anew, into docs/images
	PLANE_TX_PICTURES=docs/images $(BIN)/python -m pytest tests/browser/test_screenshots.py

docs: build/.dev-$(FILES) ## build the documentation into build/site
	@NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet
	@echo 'Open build/site/index.html'

plots: build/.dev-$(FILES) ## draw the pictures of docs/performance.md anew from bench/RESULTS.md
	@$(BIN)/python -m docs.making.plots

links: build/.dev-$(FILES) ## ask every other site that README.md and docs/ link to; needs the network
	@$(BIN)/python -m docs.making.links

fuzz: build/.dev-$(FILES) ## look for what breaks core.http1, for FUZZ_SECONDS=600; finds are kept in build/fuzz
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(call install,.venv,[fuzz])
	@mkdir -p build/fuzz
	$(BIN)/python -m tests.fuzz.http1 -max_total_time=$(FUZZ_SECONDS) -max_len=4096 \
		-dict=tests/fuzz/http1.dict -artifact_prefix=build/fuzz/ build/fuzz tests/fuzz/corpus

# An order of steps is repeated by its seed, which a run tells: make chaos CHAOS_SEED=1
SEEDED = $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

chaos: build/.dev-$(FILES) ## kill the server CHAOS_KILLS=200 times, harm all for CHAOS_SECONDS=600; needs root
	@tests/provision.sh
	$(BIN)/python -m tests.chaos.run --kills $(CHAOS_KILLS) $(SEEDED)
	$(BIN)/python -m tests.chaos.run --seconds $(CHAOS_SECONDS) $(SEEDED)

bench: bench-control bench-http bench-websocket bench-spawn bench-dashboard ## measure this machine, 45 minutes; needs wrk, nginx, gcc, docker, chromium

# Quick, and without a word in RESULTS.md: make bench-http ROUNDS=1 SECONDS=1
LENGTH = $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-control: build/.run-$(FILES)
	@$(BIN)/python -m bench.control $(LENGTH)

bench-http: build/.run-$(FILES)
	@$(BIN)/python -m bench.data_plane $(LENGTH)

bench-websocket: build/.run-$(FILES)
	@$(BIN)/python -m bench.websocket $(LENGTH)

bench-spawn: build/.run-$(FILES)
	@$(BIN)/python -m bench.spawn $(if $(ROUNDS),--rounds $(ROUNDS))

# Playwright is among what tests.
bench-dashboard: build/.dev-$(FILES)
	@$(BIN)/python -m bench.dashboard $(LENGTH)

clean: ## remove what make made
	rm -rf .venv .venv-* build .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

define newline


endef

.venv/pyvenv.cfg:
	@$(BASE) -m venv --clear .venv

build/.run-$(FILES): $(INPUTS) .venv/pyvenv.cfg
	@echo 'Installing into .venv (once; half a minute when all must be fetched) ...'
	@$(call install,.venv,[cli])
	@mkdir -p build && rm -f build/.run-* && touch $@

build/.dev-$(FILES): $(INPUTS) .venv/pyvenv.cfg
	@echo 'Installing into .venv what runs, tests and lints ...'
	@$(call install,.venv,$(DEV))
	@mkdir -p build && rm -f build/.run-* build/.dev-* && touch build/.run-$(FILES) $@

.venv-%/pyvenv.cfg:
	@$(call versioned,$*) -m venv --clear .venv-$*

build/.on-%-$(FILES): $(INPUTS) .venv-%/pyvenv.cfg
	@echo 'Installing into .venv-$* ...'
	@$(call install,.venv-$*) $(ELSEWHERE)
	@mkdir -p build && rm -f build/.on-$*-* && touch $@

Makefile: ;
.DEFAULT:
	@:$(error nothing here makes '$@'; `make help` lists what there is)

.PRECIOUS: .venv-%/pyvenv.cfg build/.on-%-$(FILES)
.PHONY: help run $(EXAMPLES) examples check test test-here test-elsewhere test-apart test-asyncio environments pythons \
	conformance screenshots docs plots links fuzz chaos bench bench-control bench-http bench-websocket bench-spawn bench-dashboard clean
