# `make demo` and `make test` are complete from a bare clone: they make .venv when it is missing or its requirements changed.
PYTHON ?= python3
BIN := .venv/bin
# The notebooks and tests find photographs through IMAGENETTE_DIR; without it those checks skip and say so.

.PHONY: demo test check notebooks pytest wheel docs readme gpu clean
.DEFAULT_GOAL := demo

.venv/ready: settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3,11) and "imagenet_nb needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

demo: .venv/ready ## train on handwritten digits, offline, in under two minutes
	$(BIN)/python train.py --preset quickstart

test: .venv/ready check notebooks docs wheel pytest ## all that CI runs

check: .venv/ready ## export, clean and README.md leave no difference
	$(BIN)/python tools/check.py

notebooks: .venv/ready ## run every notebook, tutorials too
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 $(BIN)/python tools/notebooks.py --n_workers 2 --timing --do_print

docs: .venv/ready ## README.md and the site in _docs/, without Quarto
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tools/docs.py

readme: .venv/ready ## README.md from nbs/index.ipynb
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tools/docs.py readme

wheel: .venv/ready ## the wheel's commands on the newest fastai, in a second environment that borrows torch from the first
	$(BIN)/python tools/wheel.py

pytest: .venv/ready ## what a notebook cannot do: processes, ranks, kills
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests

gpu: .venv/ready ## on a machine with a GPU: what only it can show, into bench/results/gpu.json (IMAGENETTE_DIR names the photographs)
	$(BIN)/python tools/gpu.py pack $${IMAGENETTE_DIR:?names no folder of photographs} build/photos.tgz
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tools/gpu.py run build/photos.tgz bench/results/gpu.json

clean:
	rm -rf _docs _proc .venv .venv-wheel build *.egg-info
