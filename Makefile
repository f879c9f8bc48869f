# `make` says what there is. Everything is installed into .venv of this checkout, from lock files with hashes.

# The Python to build .venv with: the first of these that is 3.11 or newer.  make PYTHON=python3.12 demo
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.11 python3.12 python3.13 python3.14 python)

PARTIES ?= 3
PROGRAM ?=
DEMO_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
TARGET ?=
RUNS ?= 20000
MINUTES ?= 5
SOAK_PARTIES ?= 5
SEED ?= 1
LOG ?= soak.jsonl
# Each kind of fault twice; KINDS names some of them, such as "kill-primary roll".
FAULTS ?=
KINDS ?=
CLUSTER_LOG ?= cluster.jsonl
KILLS ?= 100
KILLS_LOG ?= kills.jsonl
# Many tests wait for processes and time-outs rather than compute: a few more workers than cores pay.
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# No build step of anyone else's code: what is locked is a wheel, checked by its hash.
LOCKED := install --quiet --require-hashes --only-binary :all:
FUZZ_VENV := .cache/fuzz-venv

.DEFAULT_GOAL := help
.PHONY: help demo test test-netlab test-hosting test-cluster soak soak-sessions soak-kills lint types imports check bench comparison fuzz lock clean install install-fleet install-report interop-peers

help:
	@echo "make demo     install, then a joint computation of 3 parties in real processes (PARTIES=5 PROGRAM=demos/vote.py)"
	@echo "make test     install, then all tests (PYTEST_FLAGS='-k name', WORKERS=0: one after the other)"
	@echo "make test-netlab  as root: other ways to connect parties, on test hosts in network namespaces"
	@echo "make test-hosting  the mediator's image, compose file, systemd unit, Caddy in front, and its pages in Chromium"
	@echo "make test-cluster  three nodes and PostgreSQL with two standbys, while nodes, servers and networks fail (SEED=1 FAULTS=200 KINDS="kill-primary roll")"
	@echo "make soak     tests that run for minutes, such as 40 kill -9 of a mediator under load (PYTEST_FLAGS='-k name')"
	@echo "make check    tests, lint, types and the import layers, as .ci/run does"
	@echo "make soak-sessions  computations while something breaks every ten seconds (MINUTES=60 SEED=1 LOG=soak.jsonl)"
	@echo "make soak-kills  kill -9 in 100 computations: the others end in time, by name (KILLS=100 SEED=1 KILLS_LOG=kills.jsonl)"
	@echo "make lint     ruff: rules and formatting"
	@echo "make types    mypy --strict"
	@echo "make imports  import-linter: which layer may use which"
	@echo "make bench    what a session costs: didmpc bench session (BENCH_FLAGS='messages --quick')"
	@echo "make comparison  as root, on a quiet machine: results/NAME.json and docs/comparison.md (NAME=2026-11-quiet; QUICK=1: a try)"
	@echo "make fuzz     atheris on each target of tests/fuzz (TARGET=message RUNS=1000000)"
	@echo "make install  only install; afterwards: . $(BIN)/activate && didmpc --help"
	@echo "make install-fleet  also what didmpc bench --hosts needs (asyncssh)"
	@echo "make install-report  also what the plots of didmpc bench compare --html need (matplotlib)"
	@echo "make interop-peers  other implementations of DIDComm, for the tests against them"
	@echo "make lock     write requirements/*.txt and the npm peers' locks anew (needs the package indexes)"
	@echo "make clean    remove .venv and the caches"

demo: $(VENV)/.run
	@$(BIN)/python -m didmpc.bench.demonstration --parties $(PARTIES) $(if $(PROGRAM),--program $(PROGRAM)) $(DEMO_FLAGS)

test: $(VENV)/.dev interop-peers
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_FLAGS)
	@echo "make test: all tests passed."

test-netlab: $(VENV)/.dev
	@$(BIN)/python tests/bench/compare/fleet_tools.py
	@$(BIN)/python -m pytest -m netlab $(PYTEST_FLAGS)
	@echo "make test-netlab: all passed; what is not installed was skipped."

test-hosting: $(VENV)/.dev
	@$(BIN)/python tests/hosting/environments.py
	@$(BIN)/python -m pytest -m hosting -rs $(PYTEST_FLAGS)
	@echo "make test-hosting: all passed; what is not installed was skipped."

test-cluster: $(VENV)/.dev
	@SEED=$(SEED) FAULTS=$(FAULTS) KINDS="$(KINDS)" CLUSTER_LOG=$(CLUSTER_LOG) $(BIN)/python -m pytest -m cluster -rs -s $(PYTEST_FLAGS)
	@echo "make test-cluster: all passed; what this machine cannot do was skipped. Raw log: $(CLUSTER_LOG)"

soak: $(VENV)/.dev
	@$(BIN)/python -m pytest -m soak -s $(PYTEST_FLAGS)
	@echo "make soak: all passed."

soak-sessions: $(VENV)/.run
	@$(BIN)/python -m didmpc.bench.soak --minutes $(MINUTES) --parties $(SOAK_PARTIES) --seed $(SEED) --log $(LOG)

soak-kills: $(VENV)/.run
	@$(BIN)/python -m didmpc.bench.kills --kills $(KILLS) --seed $(SEED) --log $(KILLS_LOG)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "make lint: nothing to complain about."

types: $(VENV)/.dev
	@$(BIN)/mypy
	@echo "make types: every type checks."

imports: $(VENV)/.dev
	@$(BIN)/lint-imports
	@echo "make imports: every layer keeps to its own."

check: test lint types imports
	@echo "make check: tests, lint, types and imports are fine."

bench: $(VENV)/.run
	@$(BIN)/python tests/interop/install.py pypi_didcomm
	@$(BIN)/didmpc bench session $(BENCH_FLAGS)
	@echo "make bench: done."

fuzz: $(FUZZ_VENV)/.installed
	@for each in $(or $(TARGET),$(notdir $(wildcard tests/fuzz/corpus/*))); do \
	  echo "==> $$each"; $(FUZZ_VENV)/bin/python tests/fuzz/run.py $$each -verbosity=0 -runs=$(RUNS) || exit 1; \
	done
	@echo "make fuzz: $(RUNS) runs of each target, nothing found."

install-fleet: $(VENV)/.fleet
	@echo "Installed. Next:  didmpc bench --hosts FILE"

install-report: $(VENV)/.report
	@echo "Installed. Next:  didmpc bench compare --html report.html"

install: $(VENV)/.run
	@echo "Installed. Next:  . $(BIN)/activate && didmpc --help"

# Stamps: a second `make` installs nothing.
$(VENV)/.python:
	@python=""; \
	for each in $(CANDIDATES); do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$each"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "didmpc needs Python 3.11 or newer; none found as: $(CANDIDATES)." >&2; \
	  echo "Install one (Debian: apt install python3 python3-venv) or name it:  make PYTHON=/path/to/python3.12 demo" >&2; \
	  exit 1; \
	fi; \
	echo "==> Creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "Python could not create a virtual environment. On Debian and Ubuntu:  apt install python3-venv" >&2; \
	  exit 1; \
	}
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements/run.txt pyproject.toml
	@echo "==> Installing $$(grep -c '^[a-z]' requirements/run.txt) locked packages into $(VENV) (once, well under a minute)"
	@$(PIP) $(LOCKED) -r requirements/run.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.python requirements/dev.txt pyproject.toml
	@echo "==> Installing $$(grep -c '^[a-z]' requirements/dev.txt) locked packages into $(VENV) (once, well under a minute)"
	@$(PIP) $(LOCKED) -r requirements/dev.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.run

# What only the plots of `didmpc bench compare --html` need.
$(VENV)/.report: $(VENV)/.run requirements/report.txt
	@echo "==> Installing matplotlib into $(VENV), from requirements/report.txt"
	@$(PIP) $(LOCKED) -r requirements/report.txt
	@touch $@

# What only `didmpc bench --hosts` needs.
$(VENV)/.fleet: $(VENV)/.run requirements/fleet.txt
	@echo "==> Installing asyncssh into $(VENV), from requirements/fleet.txt"
	@$(PIP) $(LOCKED) -r requirements/fleet.txt
	@touch $@

# The figures of docs/comparison.md: results/NAME.json and .html, and the document made of it, with its plots. A quarter
# of an hour, as root, on a machine that does nothing else. TOR= leaves out Tor. QUICK=1 does all of it with little work
# and writes below .cache: whether it works, no figures.
NAME ?= comparison
TOR ?= tor
QUICK ?=
COMPARE := $(BIN)/didmpc bench compare
COMPARED := .cache/comparison
RESULT := $(if $(QUICK),$(COMPARED)/quick,results/$(NAME))
DOCUMENT := $(if $(QUICK),$(COMPARED)/quick.md,docs/comparison.md)
PICTURES := $(basename $(DOCUMENT))
LITTLE := $(if $(QUICK),--rounds 5 --size 16384 --repeats 1)
OTHERS := tls ssh coturn wireguard nebula tinc n2n openvpn strongswan yggdrasil didmpc-two didmpc-didcomm
ID3GINI := $(if $(QUICK),,--program tests/agent/program/mpyc_demos/id3gini.py)
ONELINERS := --program tests/agent/program/mpyc_demos/oneliners.py
comparison: $(VENV)/.dev
	@rm -rf $(COMPARED) && mkdir -p $(COMPARED) $(dir $(RESULT)) $(PICTURES)
	@echo "==> $$(date +%T) at 15 ms, with a program of 261 rounds"
	@$(COMPARE) tcp relay didmpc --profile metro --rounds 30 $(ID3GINI) $(LITTLE) --json > $(COMPARED)/1.json
	@echo "==> $$(date +%T) at 15 ms, the other contenders"
	@$(COMPARE) $(OTHERS) $(TOR) --profile metro --rounds 10 --size 262144 --repeats 2 $(LITTLE) --json > $(COMPARED)/2.json
	@echo "==> $$(date +%T) without distance: the cost in CPU"
	@$(COMPARE) tcp relay didmpc tls wireguard --profile lan $(ID3GINI) $(LITTLE) --json > $(COMPARED)/3.json
	@echo "==> $$(date +%T) farther away, and with the losses of a phone"
	@$(COMPARE) tcp relay didmpc --profile world --profile mobile --rounds 20 --repeats 2 $(ONELINERS) $(LITTLE) --json \
	  > $(COMPARED)/4.json
	@echo "==> $$(date +%T) five parties"
	@$(COMPARE) tcp relay didmpc --parties 5 --profile lan --profile metro --rounds 30 --repeats 2 $(ONELINERS) $(LITTLE) \
	  --json > $(COMPARED)/5.json
	@echo "==> $$(date +%T) what can be seen, what is survived, what works behind what"
	@$(COMPARE) tcp relay didmpc $(OTHERS) $(TOR) --no-timing --exposure --cut --nat --json > $(COMPARED)/6.json
	@$(BIN)/didmpc bench report $(COMPARED)/[1-6].json --json $(RESULT).json --html $(RESULT).html
	@rm -f $(PICTURES)/plot*.svg
	@$(BIN)/didmpc bench report $(RESULT).json --markdown $(DOCUMENT) --plots $(PICTURES)
	@echo "make comparison: $$(date +%T) wrote $(RESULT).json, $(RESULT).html, $(DOCUMENT) and $(PICTURES)/."

# Other implementations of DIDComm, each in an environment of its own; the script keeps its own stamps.
interop-peers: $(VENV)/.python
	@$(BIN)/python tests/interop/install.py

$(FUZZ_VENV)/.installed: $(VENV)/.python requirements/run.txt requirements/fuzz.txt
	@echo "==> Installing atheris into $(FUZZ_VENV), an environment of its own"
	@$(BIN)/python -m venv --clear $(FUZZ_VENV)
	@$(FUZZ_VENV)/bin/python -m pip --disable-pip-version-check $(LOCKED) -r requirements/run.txt -r requirements/fuzz.txt
	@touch $@

# dev.txt holds all of run.txt, in the same versions.
UV := .cache/uv-venv/bin/uv
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-annotate --custom-compile-command 'make lock'

$(UV): | $(VENV)/.python
	@$(BIN)/python -m venv .cache/uv-venv
	@.cache/uv-venv/bin/python -m pip --disable-pip-version-check install --quiet uv

lock: $(UV)
	@$(COMPILE) --extra numpy --extra postgres pyproject.toml requirements/build.in -o requirements/run.txt
	@$(COMPILE) --extra numpy --extra postgres --group pyproject.toml:dev -c requirements/run.txt \
	  pyproject.toml requirements/build.in -o requirements/dev.txt
	@$(COMPILE) --extra report -c requirements/dev.txt pyproject.toml -o requirements/report.txt
	@$(COMPILE) --extra fleet -c requirements/dev.txt pyproject.toml -o requirements/fleet.txt
	@$(COMPILE) requirements/didcomm.in -o requirements/didcomm.txt
	@$(COMPILE) requirements/didcomm-messaging.in -o requirements/didcomm-messaging.txt
	@$(COMPILE) requirements/fuzz.in -o requirements/fuzz.txt
	@$(COMPILE) requirements/hosting.in -o requirements/hosting.txt
	@$(COMPILE) requirements/netlab.in -o requirements/netlab.txt
	@for peer in tests/interop/npm_* tests/hosting/npm_*; do npm install --prefix $$peer --package-lock-only --ignore-scripts \
	  --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel error || exit 1; done
	@echo "make lock: wrote requirements/*.txt and tests/interop/*/package-lock.json."

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
