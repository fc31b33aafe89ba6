# make demo   trains, evaluates, denoises, writes a report: under 5 minutes on 2 cores, no network but for packages
# make test   lint, types, wheel, every test: under 10 minutes
# make lint   ruff and mypy alone
# make docs   the handbook, into site/: open site/index.html
# make fuzz   100,000 spoilt files and texts: minutes; FUZZ="--seed 1" changes them
# make audit  licences, known flaws and a bill of materials (sbom.json) of all that daelab needs
# Each makes .venv itself, once. With a GPU, or to choose a build of torch, install torch into .venv first.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO := env DAELAB_RUNS=demo/runs DAELAB_LEDGER=sqlite:///demo/runs/ledger.db $(BIN)/daelab

.PHONY: demo test lint suite docs fuzz audit env
.DELETE_ON_ERROR:

env: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("daelab needs Python 3.11 or newer; make PYTHON=python3.11 chooses one" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mypy keeps one core busy for a minute, in which the other can begin with the tests
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(READY)
	$(BIN)/pytest --numprocesses 2

docs: $(READY)
	$(BIN)/python bench/handbook.py
	$(BIN)/zensical build --clean --strict
	@echo 'the handbook     site/index.html'
	@echo 'with its search  $(BIN)/python -m http.server --bind 127.0.0.1 --directory site'

fuzz: $(READY)
	$(BIN)/python tests/fuzz/storm.py $(FUZZ)

audit: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[audit]'
	$(BIN)/python bench/audit.py --sbom sbom.json

demo: $(READY)
	@rm -rf demo && mkdir demo
	@echo '== 1. train a denoising auto-encoder on ten bundled photographs'
	$(DEMO) train --recipe quick --name demo
	@echo '== 2. evaluate it on crops it has never seen'
	$(DEMO) evaluate demo --data photos
	@echo '== 3. make noisy pictures, and clean them'
	for name in cat astronaut coffee; do \
	  $(DEMO) noise photo:$$name --noise type-1 --out demo/noisy/$$name.png --figure demo/$$name-noise.svg || exit 1; \
	done
	$(DEMO) denoise demo/noisy --model demo --out demo/clean
	@echo
	@echo 'noisy pictures   demo/noisy'
	@echo 'clean pictures   demo/clean'
	@echo 'the report       demo/runs/demo/report.html'
	@echo 'the page         $(DEMO) serve'
