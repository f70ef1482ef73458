# make demo, make test, ...: each builds the environment first if it is not there.
# Needs Python 3.11, make, git and a package index; uv is fetched into .uv/ if absent.

# uv does not read pip's settings; a folder of wheels that pip knows serves uv too.
FIND_LINKS := $(shell python3 -m pip config get global.find-links 2>/dev/null)
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
export UV_FIND_LINKS ?= $(subst $(SPACE),$(COMMA),$(FIND_LINKS))

UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
PYTHON := $(or $(shell command -v python3.11 2>/dev/null),python3)

.PHONY: demo test test-all test-notebooks mutants notebooks solutions book lint clean

demo: .venv/ready
	$(UV) run bn compare layer
	$(UV) run bn compare training --overwrite

test: .venv/ready
	$(UV) run pytest

# Then the same at full size: more examples of each property, more planted causes.
test-all: test
	$(UV) run pytest -m "slow or hypothesis" --hypothesis-profile thorough

# Every notebook from top to bottom, at reduced sizes.
test-notebooks: .venv/ready
	$(UV) run pytest -m notebook -n 2 --dist worksteal tests/test_notebooks.py

# Plant each bug of tools/mutants/ in a copy, and see that a test fails.
mutants: .venv/ready
	$(UV) run python tools/mutants.py --jobs 2

notebooks: .venv/ready
	$(UV) run python tools/notebooks.py run notebooks

solutions: .venv/ready
	$(UV) run python tools/notebooks.py run solutions

book: .venv/ready
	$(UV) run python book/build.py

lint: .venv/ready
	$(UV) run ruff check .
	$(UV) run ruff format --check .
	$(UV) run lint-imports
	$(UV) run pyright
	PYTHONPATH=.:typings $(UV) run pyright --verifytypes bn_from_scratch --ignoreexternal

# Compiled once: each of the many processes of the tests would do it again where
# PYTHONDONTWRITEBYTECODE is set.
.venv/ready: pyproject.toml | $(UV)
	$(UV) sync --compile-bytecode
	@touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

clean:
	rm -rf .venv .uv results book/_build
