# Commands of the project. Each makes the environment .venv first; only python3 (3.11 or newer) and make are needed.

PYTHON ?= python3
CORES ?= 2
WORKERS ?= 2
OUT ?= sheet.html
BIN := .venv/bin
STAMP := .venv/.installed
SNAKEFILES := Snakefile rules
DEMO_RESULTS := $(patsubst %,results/%_demo.json,supervised supervised+con hard-pl xpl)

BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.PHONY: help demo sheet test test-slurm lint bench browser clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP)  ## render, download, train and score the demo; show its table and page
	@$(BIN)/snakemake --cores $(CORES) demo --prioritize results/xpl_demo.json
	@$(BIN)/avsl-eval summary $(DEMO_RESULTS)
	@echo "Page: $(CURDIR)/results/report_demo.html"

sheet: $(STAMP)  ## draw your clips with their boxes: CLIPS=FOLDER ANNOTATIONS=JSON [OUT=sheet.html]
	@[ -n "$(CLIPS)" ] && [ -n "$(ANNOTATIONS)" ] \
	  || { echo "usage: make sheet CLIPS=FOLDER ANNOTATIONS=JSON [OUT=sheet.html]; JSON as vggss.json" >&2; exit 2; }
	@$(BIN)/snakemake --cores $(CORES) data/sample/sheet.jpg \
	  --config "sample_clips=$(CLIPS)" "sample_annotations=$(ANNOTATIONS)"
	@$(BIN)/avsl-data sheet --shards data/sample/shards --annotations data/sample/annotations.json --out "$(OUT)"

test: lint  ## every check and every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadgroup

test-slurm: $(STAMP)  ## install Slurm by apt, start it on this machine alone and run the demo through it (root)
	@command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null \
	  || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[slurm]'
	AVSL_TEST_SLURM=1 $(BIN)/pytest -v tests/slurm

lint: $(STAMP)  ## every check that runs no code of the project
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint

bench: $(STAMP)  ## measure; one JSON file per benchmark in bench-results/
	@mkdir -p bench-results
	@set -e; for script in benchmarks/*.py; do \
	  echo "$$script"; $(BIN)/python $$script --out bench-results/$$(basename $$script .py).json; done

browser:  ## install Chromium by apt where there is no browser; some tests of the page look at it in one
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] \
	  || { echo "make browser needs apt-get and root; install Chromium yourself, or name one by AVSL_CHROMIUM" >&2; exit 1; }; \
	timeout 300 sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium'

clean:  ## remove what the workflow and the tools made; .venv stays
	rm -rf data runs results logs bench-results .snakemake .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed; say which by make PYTHON=..." >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
