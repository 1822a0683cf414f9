# Each target calls the `cemiface` command. `make help` prints the ## comments.

CONFIG  ?= configs/demo.yaml
CLUSTER ?= configs/cluster/local.yaml
# METHOD: for `demo`, e.g. METHOD=gandiffface
METHOD  ?= cemiface
# SET: config fields to override, e.g. SET="generate.steps=10 name=steps10"
SET     ?=
# STAGE, RANK: for `why`, `logs` and `cancel`
STAGE   ?=
RANK    ?=
# MUTATIONS: number of mutated files in `fuzz`
MUTATIONS ?= 20000
# FIELD: for `explain`
FIELD   ?=
# KILLS: number of random kills in `crash-test`
KILLS   ?= 220
PYTHON  ?= python3

VENV := .venv
BIN  := $(VENV)/bin
CEMIFACE := $(BIN)/cemiface
# Tests of one file stay on one worker, because they share fixtures.
TESTS := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile
# Their coverage is measured in CI, which fails below the share that pyproject.toml names.
PACKAGE_TESTS := tests/cemiface tests/shards tests/slurm
# DeepSpeed's own operators are not needed, and building them would need a GPU compiler.
PIP := DS_BUILD_OPS=0 $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# Without an NVIDIA driver, the CPU build of torch is installed: a CUDA build takes gigabytes and could not be used.
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo "torch>=2.6" || echo "torch==2.13.0+cpu")
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
STAGES := shard convert-benchmarks train-embedder embed train-diffusion calibrate train-gan candidates directions \
  identities portraits attributes train-base personalize generate train-recognition \
  study-groups study-m study-scores study-sets evaluate fingerprint audit refill settle publish report

.DEFAULT_GOAL := help
.PHONY: help setup demo all $(STAGES) plan dry-run status watch why logs cancel explain config-reference verify test coverage test-long cluster-test crash-test fuzz attack lint types check clean

help: ## print this list
	@echo "make TARGET [CONFIG=file] [CLUSTER=file] [SET=\"key=value ...\"]"; echo
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-18s %s\n", $$1, $$2}'
	@echo; echo "Stages, each also a target: $(STAGES)"

setup: $(VENV)/.ready ## create a virtual environment with everything needed (other targets do this if it is missing)

$(VENV)/.ready: setup.py constraints.txt
	@echo "Setting up $(VENV): about 1 GB, one to five minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) "$(TORCH)" 2>/dev/null || $(PIP) --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH)"
	@$(PIP) -e '.[dev]'
	@touch $@

data/orl: | $(VENV)/.ready
	$(BIN)/python -m jobs.command.fetch_demo_faces $@

demo: setup ## run the whole chain on 400 real faces on this machine; rerun to resume; result: runs/demo/report/index.html (METHOD=gandiffface: of the second method)
	$(CEMIFACE) demo --method $(METHOD) $(SET)

all: setup ## run the whole chain of CONFIG on CLUSTER; rerun to resume
	$(CEMIFACE) all $(CONFIG) --cluster $(CLUSTER) $(SET)

$(STAGES): setup
	$(CEMIFACE) $@ $(CONFIG) --cluster $(CLUSTER) $(SET)

plan dry-run: setup ## print what would run: job scripts, ranks, images, GPU hours; starts nothing
	$(CEMIFACE) plan $(CONFIG) --cluster $(CLUSTER) $(SET)

# The exit code of `status` gives the state of the run. Only wrong usage (2) is an error for make.
status: setup ## print what is done, running, queued, held, stale, failed or lost, and the command to run next
	@$(CEMIFACE) status $(CONFIG) $(SET) || [ $$? -ne 2 ]

watch: setup ## show the status live until nothing runs any more
	@$(CEMIFACE) status $(CONFIG) --watch $(SET) || [ $$? -ne 2 ]

why: setup ## print the first cause of a failure and how to rerun it here (STAGE=name, RANK=n: for one stage or rank)
	@$(CEMIFACE) why $(CONFIG) $(STAGE) $(RANK) $(SET)

logs: setup ## print the end of the logs of STAGE (RANK=n: of one rank)
	@$(CEMIFACE) logs $(CONFIG) $(or $(STAGE),generate) $(RANK) $(SET)

cancel: setup ## stop the run (STAGE=name: one stage) after saving its work
	@$(CEMIFACE) cancel $(CONFIG) $(STAGE) $(SET)

explain: setup ## what a config field or section means: FIELD=generate.eta; without FIELD: the sections
	@$(CEMIFACE) explain $(FIELD)

config-reference: setup ## write the pages and schemas of all config fields: docs/config*.md, configs/schema*.json
	$(CEMIFACE) explain --markdown > docs/config.md
	$(CEMIFACE) explain --schema > configs/schema.json
	$(CEMIFACE) explain --markdown --method gandiffface > docs/config_gandiffface.md
	$(CEMIFACE) explain --schema --method gandiffface > configs/schema_gandiffface.json

verify: setup ## rehash every file of the run
	@$(CEMIFACE) verify $(CONFIG) $(SET)

test: setup data/orl ## the tests: no network, no GPU
ifdef CI
	$(MAKE) coverage
	$(TESTS) $(addprefix --ignore=,$(PACKAGE_TESTS))
else
	$(TESTS)
endif

coverage: setup data/orl ## the tests of cemiface, shards and slurm, and how much of these packages they run; part of `test` in CI
	$(TESTS) $(PACKAGE_TESTS) --cov --cov-report=term

test-long: setup data/orl ## run the tests that take minutes: killed demos, resumed trainings, compiled nets, calibrated faces, attacks
	$(TESTS) -m "long or attack" --timeout 3600

cluster-test: setup data/orl ## run tests on a real Slurm of virtual nodes; installs Slurm if it is missing (as root)
	$(BIN)/python -m tests.cluster.virtual_slurm --install
	$(BIN)/python -m pytest -m cluster --timeout 3600 tests/cluster

crash-test: setup ## kill stages at random KILLS times and check that the bytes stay the same; a few minutes per hundred
	KILLS=$(KILLS) $(BIN)/python -m pytest -m crash tests/jobs

fuzz: setup ## read MUTATIONS mutated files of every format; minutes per hundred thousand; `make test` reads a few
	$(BIN)/python -m tests.fuzz.fuzz --mutations $(MUTATIONS)

attack: setup ## try to publish real faces in some thirty ways on a small run; each must be refused or left out
	$(TESTS) -m attack tests/jobs/attack

lint: setup ## check lint and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## check types with mypy
	$(BIN)/mypy

check: lint types test ## run lint, types and tests, as CI does before its longer tests

clean: ## remove the virtual environment and caches; keeps runs/ and data/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
