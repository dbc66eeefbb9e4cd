# Every target sets up what it needs in .venv, so that each works by itself in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# mkdocs-material advertises its successor, which --strict would not take for a warning but readers do.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
# Files in the order in which tests/conftest.py puts them.
PARALLEL = --dist loadfile --no-loadscope-reorder
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: tutorial test test-slow check format docs publish-docs bench changelog release clean

tutorial: $(VENV)/.installed
	$(BIN)/aip train tutorial

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(PARALLEL)

test-slow: $(VENV)/.installed-test
	# One more process than cores: slow tests often wait for other processes.
	$(BIN)/python -m pytest -n 3 $(PARALLEL) -m "slow or not slow"

check: $(VENV)/.installed-check $(VENV)/.installed-docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python docs/check_language.py
	$(MKDOCS) build --strict --quiet --site-dir build/site

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	for page in commands reference hooks api checks parity hints; do $(BIN)/python docs/make_$$page.py || exit 1; done
	$(MKDOCS) build --strict

# Adds the site of this version to the branch gh-pages, beside the earlier ones. See RELEASING.md.
publish-docs: $(VENV)/.installed-docs
	PATH=$(CURDIR)/$(BIN):$$PATH NO_MKDOCS_2_WARNING=1 $(BIN)/mike deploy --update-aliases \
		$$($(BIN)/python -c 'import aipcore; print(aipcore.__version__.rpartition(".")[0])') latest
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/mike set-default latest

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/report.py

# Moves changes/ into CHANGELOG.md; then builds, checks and tags the commit. See RELEASING.md.
changelog:
	$(PYTHON) .ci/release.py changelog

release: $(VENV)/.installed-release
	$(BIN)/python .ci/release.py release

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "aip needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.installed-check: $(VENV)/.installed
	$(INSTALL) --editable '.[check]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-release: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) build twine
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(INSTALL) --editable '.[bench]'
	@touch $@
