# `make demo` and `make test` are all a new machine needs; the rest is for those who work on pdeathsig.
PYTHON ?= python3
VENV := .venv
SOURCES := $(wildcard c_src/* pdeathsig/*.py pdeathsig/*.start startup/*) build_ffi.py setup.py pyproject.toml
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: demo test test-user test-pythons check sanitize bench clean

demo: $(VENV)/installed
	$(VENV)/bin/pdeathsig demo

test: $(VENV)/installed
	$(VENV)/bin/pytest $(PYTEST)

# Where Debian's python3-venv is missing, the machine's own pip fills the environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV)/bin/python install pip; }

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(PIP) install --quiet '.[test]'
	touch $@

# The same tests as an ordinary user, from a copy that such a user can read. Only root can ask for that.
test-user:
	sh tests/as_user.sh $(PYTEST)

# One wheel, built from the sdist, on every Python that is here.
test-pythons: $(VENV)/checkers
	sh tests/on_pythons.sh $(PYTEST)

check: $(VENV)/checkers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror c_src/*.c c_src/*.h
	PDEATHSIG_WERROR=1 $(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/werror .

$(VENV)/checkers: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet '.[test,check]'
	touch $(VENV)/installed $@

# AddressSanitizer and UndefinedBehaviorSanitizer under the whole of the tests.
sanitize: $(VENV)/installed
	sh tests/sanitized.sh $(PYTEST)

bench: $(VENV)/installed
	for script in benchmarks/[a-z]*.py; do $(VENV)/bin/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist
