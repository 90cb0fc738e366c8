# Everything a newcomer or a maintainer runs. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
NEXTJS := examples/nextjs
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# --no-deps: requirements.txt is a complete compile. pip's own resolver can't know requirements-overrides.txt
# and would bring back the second OpenCV, the second onnxruntime and numpy 1.
PIP_PINNED := $(PIP) --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --custom-compile-command "make compile"

# PYTHON=/path/to/python3.12 make install: uses that one. Otherwise the first that is new enough and can make a venv.
PYTHON ?=
define find_python
for candidate in $(or $(PYTHON),python3.12 python3.11 python3); do \
	if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	then echo "$$candidate"; exit 0; fi; \
done; \
echo "Python 3.11 or 3.12 with its venv module was not found (MediaPipe's wheels exist up to 3.12)." >&2; \
echo "  Debian 12:    apt-get install python3 python3-venv" >&2; \
echo "  Ubuntu 24.04: apt-get install python3.12 python3.12-venv" >&2; \
echo "  macOS:        brew install python@3.12" >&2; \
echo "Found elsewhere? make install PYTHON=/path/to/python3.12" >&2; exit 1
endef

.PHONY: help
help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.dev ## Make .venv and install everything, with the tools for testing

.PHONY: install-gpu
install-gpu: $(VENV)/.runtime ## Add NVIDIA's runtime libraries, for DEVICE=cuda
	$(PIP_PINNED) -r requirements-gpu.txt

.PHONY: install-generation
install-generation: $(VENV)/.generation ## Add PyTorch and diffusers, to generate illustrations

.PHONY: run
run: $(VENV)/.runtime ## Start the service at http://localhost:8000
	@exec $(BIN)/python main.py

.PHONY: demo
demo: $(VENV)/.runtime ## Personalise a bundled page through the API: examples/output/before_after.png
	@$(BIN)/python -m examples.demo

.PHONY: screenshots
screenshots: $(VENV)/.dev ## Take the README's pictures of the Studio with Chromium: docs/studio-*.webp
	@$(BIN)/python -m examples.screenshots

.PHONY: test
test: $(VENV)/.dev ## Run the tests
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Node.js and npm are in .venv/bin; of the system it needs Chromium.
.PHONY: nextjs
nextjs nextjs-types: export PATH := $(abspath $(BIN)):$(PATH)
nextjs: $(VENV)/.dev ## Check and build examples/nextjs, and visit it with a browser
	@cd $(NEXTJS) && npm ci --no-fund --no-audit --loglevel=error
	@$(BIN)/python -m examples.openapi | npm --prefix $(NEXTJS) run --silent check-types
	@cd $(NEXTJS) && npm run --silent test && npm run --silent build
	@$(BIN)/python -m pytest $(NEXTJS)

.PHONY: nextjs-types
nextjs-types: $(VENV)/.dev ## Write examples/nextjs/lib/openapi.ts from the service's routes
	@cd $(NEXTJS) && npm ci --no-fund --no-audit --loglevel=error
	@$(BIN)/python -m examples.openapi | npm --prefix $(NEXTJS) run --silent types

.PHONY: bench
bench: $(VENV)/.runtime ## Time the service beside its baselines and print the table
	@$(BIN)/python -m benchmarks.bench

.PHONY: lint
lint: $(VENV)/.dev ## Check style and types: ruff, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict .

.PHONY: format
format: $(VENV)/.dev ## Rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: compile
compile: $(VENV)/.dev ## Pin the newest fitting versions into requirements*.txt
	$(COMPILE) --upgrade requirements.in --override requirements-overrides.txt --excludes requirements-excludes.txt --output-file requirements.txt
	$(COMPILE) --upgrade requirements-dev.in --output-file requirements-dev.txt
	$(COMPILE) --upgrade requirements-gpu.in --output-file requirements-gpu.txt
	$(COMPILE) --upgrade requirements-generation.in --excludes requirements-generation-excludes.txt --output-file requirements-generation.txt

.PHONY: clean
clean: ## Remove .venv and caches (pictures and models stay)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set, so that an install runs once per change of its pins. A .venv left by another Python is made anew.
$(VENV)/.runtime: requirements.txt
	@python=$$($(find_python)); \
	echo "Installing with $$($$python --version) into $(VENV) (about two minutes)"; \
	$$python -m venv --clear $(VENV)
	@$(PIP_PINNED) -r requirements.txt
	@$(BIN)/python -W ignore -c 'import cv2, mediapipe, onnxruntime' 2>$(VENV)/import.log || { cat $(VENV)/import.log >&2; \
	echo "An installed library doesn't load on this machine: the last line above names what the system lacks." >&2; exit 1; }
	@touch $@

# With dependencies, unlike the others: torch's CUDA build brings NVIDIA's libraries, its CPU build brings none.
$(VENV)/.generation: $(VENV)/.runtime requirements-generation.txt
	@echo "Installing PyTorch and diffusers into $(VENV)"
	@$(PIP) -c requirements.txt -r requirements-generation.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.generation requirements-dev.txt
	@$(PIP_PINNED) -r requirements-dev.txt
	@touch $@
