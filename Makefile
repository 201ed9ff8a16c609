# make run    from nothing to a trained, judged CIFAR-10 classifier and its report
# make test   the tests          make check  lint, format, types, generated documents
# make bench  time to accuracy   make docs   regenerate what is generated
#             of RECIPES="fast94 airbench94" in alternation; an idle machine and benchmarks/README.md, please
# make example RUN=runs/x    docs/examples and the screenshots in docs/images from an evaluated run (needs Chromium)
# TORCH_INDEX=https://download.pytorch.org/whl/cpu  takes the small CPU-only build of torch where pip would bring CUDA
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
RECIPES ?= fast90
RUN ?= runs/quickstart
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: run test check bench docs example clean

run: $(VENV)/.run
	$(BIN)/cifarlab quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/build.py --check

bench: $(VENV)/.run
	$(BIN)/python benchmarks/time_to_accuracy.py $(RECIPES) --seeds 5 --wall

docs: $(VENV)/.run
	$(BIN)/python docs/build.py

example: $(VENV)/.dev
	$(BIN)/python docs/example_report.py $(RUN)

clean:
	rm -rf $(VENV) build dist

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cifarlab needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[dev]'
	touch $@
