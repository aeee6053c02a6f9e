# The two commands for a fresh machine: `make demo` and `make test`. `make help` lists all.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

# TORCH=cpu (or cu126, ...): another build of PyTorch than PyPI's; remembered by the environment.
TORCH ?= $(shell cat $(VENV)/.torch 2>/dev/null)
# A change of TORCH remakes the environment although requirements.txt is the same.
ifneq ($(strip $(TORCH)),$(strip $(shell cat $(VENV)/.torch 2>/dev/null)))
.PHONY: $(STAMP)
endif

PROFILE ?= laptop

.DEFAULT_GOAL := help
.PHONY: help env demo playground test lint notebooks bench docs lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

env: $(STAMP)  ## make .venv (again when requirements.txt changes); TORCH=cpu for the CPU-only build

$(STAMP): requirements.txt
	@PYTHON="$(PYTHON)" .ci/env.sh "$(VENV)" "$(strip $(TORCH))"
	@cp requirements.txt $@

demo: $(STAMP)  ## run 00_start_here on the shipped photos: pictures and a report in runs/demo
	@$(BIN)/messi demo

playground: $(STAMP)  ## paint a hole over a photo in the browser and fill it
	@$(BIN)/messi playground

test: $(STAMP)  ## run every test, the smoke run of all notebooks included
	MESSI_PROFILE=smoke $(BIN)/python -m pytest

lint: $(STAMP)  ## check the style of all Python files
	$(BIN)/ruff check .

notebooks: $(STAMP)  ## run all notebooks: NAMES="02 05" some, PROFILE=gpu larger, SAVE=1 keeps the outputs
	$(BIN)/messi notebooks $(NAMES) --profile $(PROFILE) $(if $(SAVE),--save)

bench: $(STAMP)  ## measure beside other libraries (10 minutes), and renew the README's table
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/table.py

docs: $(STAMP)  ## the API reference from the docstrings, in build/docs
	@$(BIN)/python .ci/docs.py build/docs

lock: $(STAMP)  ## pin what pyproject.toml asks for; UPGRADE=1 takes the newest versions
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python .ci/lock.py $(if $(UPGRADE),--upgrade)

clean:  ## delete what tools leave behind (not runs/, data/cache/ or .venv/)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './$(VENV)/*' -prune -exec rm -rf {} +
