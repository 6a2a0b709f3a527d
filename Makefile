# `make arm` trains a robot arm and shows it; `make test` runs the tests. Both set up everything they need in .venv.

PYTHON ?= python3
RUN ?= runs/arm
export OMP_NUM_THREADS ?= 1

.PHONY: arm test mutants check clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

arm: .venv/ready
	.venv/bin/pistar train reacher --steps 600000 --evaluation.final-episodes 300 --out $(RUN)
	.venv/bin/pistar watch $(RUN) --out $(RUN)/arm.mp4

test: .venv/ready
	.venv/bin/python -m pytest

mutants: .venv/ready
	.venv/bin/python -m tests.mutants

check: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
