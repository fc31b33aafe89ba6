# make demo         train, evaluate and denoise, and write a report; takes under 5 minutes on 2 cores
# make test         run ruff, mypy and every test; takes under 10 minutes
# make lint         run ruff and mypy
# make docs         draw the figures and build the handbook into site/; open site/index.html
# make fuzz         try 100,000 damaged files and texts; takes minutes; FUZZ="--seed 1" changes them
# make audit        check the licences and the known vulnerabilities of all dependencies; AUDIT=--offline: licences only
# make structure    print the figures of the code base: packages, imports, sizes, documentation
# make test-oldest  run a part of the tests with the oldest supported versions of the dependencies, in .venv-oldest
# Each target makes .venv once, with the versions in constraints.txt. For another build of torch, such as one for a GPU,
# install it into .venv first.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := -m pip install --quiet --disable-pip-version-check
DEMO := env DAELAB_RUNS=demo/runs DAELAB_LEDGER=sqlite:///demo/runs/ledger.db $(BIN)/daelab

.PHONY: demo test lint suite docs fuzz audit structure test-oldest env
.DELETE_ON_ERROR:

env: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("daelab needs Python 3.11 or newer; make PYTHON=python3.11 chooses one" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mypy keeps one core busy for a minute, while the other core starts with the tests
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(READY)
	$(BIN)/pytest --numprocesses 2

docs: $(READY)
	$(BIN)/python tools/figures.py
	$(BIN)/python tools/handbook.py
	$(BIN)/zensical build --clean --strict
	@echo 'the handbook              site/index.html'
	@echo 'the handbook with search  $(BIN)/python -m http.server --bind 127.0.0.1 --directory site'

fuzz: $(READY)
	$(BIN)/python tests/stress/stress.py $(FUZZ)

audit: $(READY)
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[audit]'
	$(BIN)/python tools/audit.py $(AUDIT)

structure: $(READY)
	$(BIN)/python tools/structure.py

OLDEST := .venv-oldest
# fast tests of what uses the light dependencies; torch is the one in constraints.txt, and the optional ones are absent
OLDEST_TESTS := $(addprefix tests/,test_architecture.py cli/test_cli.py image_io/test_image_io.py training/test_recipe.py \
  runs/test_runs.py models/test_architectures.py)

$(OLDEST)/ready: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP) --constraint constraints-oldest.txt "$$(grep '^torch==' constraints.txt)" \
	  --editable . pytest hypothesis
	@touch $@

test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest --override-ini filterwarnings=default $(OLDEST_TESTS)

demo: $(READY)
	@rm -rf demo && mkdir demo
	@echo '== 1. train a denoising auto-encoder on ten bundled photographs'
	$(DEMO) train --recipe quick --name demo
	@echo '== 2. evaluate it on crops it has never seen'
	$(DEMO) evaluate demo --data photos
	@echo '== 3. make noisy pictures and denoise them'
	for name in cat astronaut coffee; do \
	  $(DEMO) noise photo:$$name --noise type-1 --out demo/noisy/$$name.png --figure demo/$$name-noise.svg || exit 1; \
	done
	$(DEMO) denoise demo/noisy --model demo --out demo/clean
	@echo
	@echo 'noisy pictures   demo/noisy'
	@echo 'denoised         demo/clean'
	@echo 'the report       demo/runs/demo/report.html'
	@echo 'the page         $(DEMO) serve'
