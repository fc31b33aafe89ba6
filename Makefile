# make demo         denoise a photograph, train and evaluate a network, and write a report; takes under 5 minutes on 2 cores
# make test         run ruff, mypy and every test; takes under 10 minutes
# make lint         run ruff and mypy
# make docs         draw the figures and build the handbook into site/; open site/index.html
# make fuzz         try 100,000 damaged files and texts; takes up to an hour; FUZZ="--seed 1" changes them
# make audit        check the licences and the known vulnerabilities of all dependencies; AUDIT=--offline: licences only
# make benchmarks   measure speed and memory, and write the tables of docs/performance.md; takes an hour at most
# make structure    print the figures of the code base: packages, imports, sizes, documentation
# make test-oldest  run a part of the tests with the oldest supported versions of the dependencies, in .venv-oldest
# Each target makes .venv once, with the versions in constraints.txt. Without an NVIDIA GPU, torch comes from its index
# for CPUs; TORCH_INDEX=URL names another index, and TORCH_INDEX= leaves the choice to pip.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# The demo needs fewer packages than development, and takes the environment of development if it exists.
DEMO_READY := $(if $(wildcard $(READY)),$(READY),.venv/ready-demo)
PIP := -m pip install --disable-pip-version-check
# The build of torch with CUDA takes gigabytes, so a computer without an NVIDIA GPU gets the build for CPUs.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
DEMO := env DAELAB_RUNS=demo/runs DAELAB_LEDGER=sqlite:///demo/runs/ledger.db $(BIN)/daelab

.PHONY: demo test lint suite docs fuzz audit benchmarks structure test-oldest env
.DELETE_ON_ERROR:

env: $(READY)

$(READY): EXTRAS := dev
.venv/ready-demo: EXTRAS := demo,web

$(READY) .venv/ready-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("daelab needs Python 3.11 or newer; make PYTHON=python3.11 chooses one" if sys.version_info < (3, 11) else 0)'
	@echo '== Setting up .venv: PyTorch first, then the other packages of daelab[$(EXTRAS)]'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mypy keeps one core busy for a minute, while the other core starts with the tests
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 lint suite

# One process runs all tests of a file, which share what takes long to make. The longest files begin first (tests/conftest.py).
suite: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

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

# BENCHMARKS="--data-root .data" takes CIFAR-10, and "--only start-up,threads" measures a part.
benchmarks: $(READY)
	$(BIN)/python benchmarks/performance.py $(BENCHMARKS)

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

# Each step makes a file, so that a demo that was interrupted goes on where it stopped. `rm -r demo` begins it anew.
demo: demo/before-and-after.png demo/index.html
	@echo
	@echo 'a photograph, noisy and denoised  demo/before-and-after.png'
	@echo 'the report                        demo/index.html'
	@echo 'the page, at 127.0.0.1:8000       $(DEMO) serve'

demo/before-and-after.png: | $(DEMO_READY)
	@mkdir -p demo
	@echo '== 1 of 4. Add noise to a photograph and denoise it'
	$(DEMO) noise photo:coffee --noise 'awgn(40)' --out demo/noisy.png --overwrite
	$(DEMO) denoise demo/noisy.png --out demo/denoised.png --overwrite
	@$(BIN)/python tools/demo.py panel $@ coffee demo/noisy.png demo/denoised.png

demo/crops.npz: | $(DEMO_READY)
	@mkdir -p demo
	@$(BIN)/python tools/demo.py crops $@

demo/trained: demo/crops.npz | demo/before-and-after.png
	@echo "== 2 of 4. Train the paper's network on crops of seven photographs; this takes a minute or two"
	@if test -e demo/runs/demo/recipe.toml; then set -x; $(DEMO) train --resume demo; \
	  else set -x; $(DEMO) train --recipe quick --set data.name=npz:demo/crops.npz --name demo; fi
	@touch $@

demo/index.html: demo/trained
	@echo '== 3 of 4. Evaluate it on crops of three other photographs'
	$(DEMO) evaluate demo --data npz:demo/crops.npz
	@echo '== 4 of 4. Denoise these photographs as a whole, and write the report'
	$(DEMO) noise photo:cat photo:astronaut photo:coffee --noise type-1 --out demo/noisy/
	$(DEMO) denoise demo/noisy --model demo --out demo/clean
	@$(BIN)/python tools/demo.py page demo
