# Every target is a thin call of the `cemiface` command; `make help` is made from the ## comments.

CONFIG  ?= configs/demo.yaml
CLUSTER ?= configs/cluster/local.yaml
# SET: overrides, e.g. SET="generate.steps=10 name=steps10"
SET     ?=
# STAGE, RANK: for why, logs and cancel
STAGE   ?=
RANK    ?=
# KILLS: for crash-test
KILLS   ?= 220
PYTHON  ?= python3

VENV := .venv
BIN  := $(VENV)/bin
CEMIFACE := $(BIN)/cemiface
# Tests of one file stay on one worker, as they share what was made for them.
TESTS := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile
# Fails below the share that pyproject.toml names.
COVERAGE := --cov --cov-report=term
# DeepSpeed's own operators are not needed, and building them needs a compiler for GPUs.
PIP := DS_BUILD_OPS=0 $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# On a machine without an NVIDIA driver the CPU build of torch is pinned: a CUDA build is gigabytes nobody could use.
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo "torch>=2.6" || echo "torch==2.13.0+cpu")
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
STAGES := shard train-embedder embed train-diffusion identities calibrate generate train-recognition \
  convert-benchmarks study-groups study-m study-sets evaluate fingerprint audit refill settle publish report

.DEFAULT_GOAL := help
.PHONY: help setup demo all $(STAGES) plan dry-run status watch why logs cancel verify test coverage test-long cluster-test crash-test lint types check clean

help: ## this list
	@echo "make TARGET [CONFIG=file] [CLUSTER=file] [SET=\"key=value ...\"]"; echo
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-18s %s\n", $$1, $$2}'
	@echo; echo "Stages, each also a target: $(STAGES)"

setup: $(VENV)/.ready ## a virtual environment with everything needed (done by the other targets when missing)

$(VENV)/.ready: setup.py constraints.txt
	@echo "Setting up $(VENV): about 1 GB, one to five minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) "$(TORCH)" 2>/dev/null || $(PIP) --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH)"
	@$(PIP) -e '.[dev]'
	@touch $@

data/orl: | $(VENV)/.ready
	$(BIN)/python -m jobs.command.fetch_demo_faces $@

demo: setup ## the whole chain on 400 real faces, on this machine; again: resumes; result: runs/demo/report/index.html
	$(CEMIFACE) demo $(SET)

all: setup ## the whole chain of CONFIG on CLUSTER
	$(CEMIFACE) all $(CONFIG) --cluster $(CLUSTER) $(SET)

$(STAGES): setup
	$(CEMIFACE) $@ $(CONFIG) --cluster $(CLUSTER) $(SET)

plan dry-run: setup ## what would run: units, ranks, images; nothing is started
	$(CEMIFACE) plan $(CONFIG) --cluster $(CLUSTER) $(SET)

# Their exit codes say how the run stands; for make only a wrong usage (2) is an error.
status: setup ## what is done, running, queued, stale, failed or lost, and what to type next
	@$(CEMIFACE) status $(CONFIG) $(SET) || [ $$? -ne 2 ]

watch: setup ## the same, live, until nobody is at work any more
	@$(CEMIFACE) status $(CONFIG) --watch $(SET) || [ $$? -ne 2 ]

why: setup ## the first cause of trouble (STAGE=name, RANK=n: of one stage or rank), and how to run it here
	@$(CEMIFACE) why $(CONFIG) $(STAGE) $(RANK) $(SET)

logs: setup ## the end of the logs of STAGE (RANK=n: of one rank)
	@$(CEMIFACE) logs $(CONFIG) $(or $(STAGE),generate) $(RANK) $(SET)

cancel: setup ## stop what is at work on the run (STAGE=name: on one stage); it saves its work
	@$(CEMIFACE) cancel $(CONFIG) $(STAGE) $(SET)

verify: setup ## rehash every file the run has made
	@$(CEMIFACE) verify $(CONFIG) $(SET)

test: setup data/orl ## the tests: no network, no GPU
	$(TESTS) $(if $(CI),$(COVERAGE))

coverage: setup data/orl ## the same tests, and how much of cemiface, shards and slurm they run; CI does this
	$(TESTS) $(COVERAGE)

test-long: setup data/orl ## the tests that take minutes: killed demos, resumed trainings, compiled nets, calibrated faces
	$(TESTS) -m long --timeout 3600

cluster-test: setup data/orl ## tests on a real Slurm of virtual nodes; installs Slurm where it is missing (as root)
	$(BIN)/python -m tests.cluster.virtual_slurm --install
	$(BIN)/python -m pytest -m cluster --timeout 3600 tests/cluster

crash-test: setup ## KILLS random kills over all stages, some minutes per hundred; the bytes stay the same
	KILLS=$(KILLS) $(BIN)/python -m pytest -m crash tests/jobs

lint: setup ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy
	$(BIN)/mypy

check: lint types test ## lint, types, tests

clean: ## remove the virtual environment and caches; runs/ and data/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
