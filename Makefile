# Each target sets up what it needs; a second run installs nothing again.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-gpu chaos bench check docs clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.installed-slow: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,slow]'
	touch $@

demo: .venv/.installed
	@echo "No pretrained encoder comes with the project, so the demo first pretrains one, on digits without their labels."
	$(BIN)/hpo pretrain --arch resnet18 --stem imagenet --dataset digits --image-size 16 --no-flip --batch-size 64 \
	    --epochs 8 --knn-every 4 --output digits.safetensors
	$(BIN)/hpo run --backbone torchvision:resnet18 --weights digits.safetensors --dataset digits \
	    --space docs/demo.toml --trials 10 --study demo

# The files of long tests come first in the order of names, which xdist would reverse.
test: .venv/.installed
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.installed-slow
	$(BIN)/pytest -m slow

# Where torch can use an NVIDIA card; elsewhere these tests are skipped, as they are in `make test`.
test-gpu: .venv/.installed
	$(BIN)/pytest -m gpu

# Kills studies at random moments, half an hour long, and prints the result (docs/reliability.md).
chaos: .venv/.installed
	$(BIN)/python -m tests.e2e.chaos --kills 28
	$(BIN)/python -m tests.e2e.chaos --kills 12 --seed 100 --postgres

# A site of docs/ and of the docstrings; a link that leads nowhere is an error.
docs: .venv/.installed
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

# The figures of docs/performance.md, measured on this machine: about six hours on two cores, half of them for
# the study.
bench: .venv/.installed
	$(BIN)/python -m benchmarks.driver
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.first_epoch
	$(BIN)/python -m benchmarks.time_left
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.placement
	$(BIN)/python -m benchmarks.efficiency
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.contention
	$(BIN)/python -m benchmarks.retrain --data-dir .bench
	$(BIN)/python -m benchmarks.pretrain speed --data-dir .bench
	$(BIN)/python -m benchmarks.pretrain quality --data-dir .bench
	$(BIN)/python -m benchmarks.pretrain_defaults run --data-dir .bench

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
