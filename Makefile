# `make help` lists the targets. `make demo` and `make test` are all that a new machine needs.
PYTHON ?= python3
VENV := .venv
SOURCES := $(shell find c_src pdeathsig startup -name '*.[ch]' -o -name '*.py' -o -name '*.pyi' -o \
    -name '*.start' -o -name '*.pth')
SOURCES += build_ffi.py setup.py pyproject.toml
C_FILES := $(shell find c_src tests -name '*.[ch]')
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# Tests run in this many processes side by side; 0 is one after the other, in pytest itself.
WORKERS ?= auto
export PYTEST_PARALLEL := --numprocesses $(WORKERS) --dist worksteal

.DELETE_ON_ERROR:
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*##.*/\1/p' Makefile)

demo: $(VENV)/installed ## show what survives a killed parent, and what does not
	$(VENV)/bin/pdeathsig demo

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

test: $(VENV)/installed ## run all tests; some: make test PYTEST="tests/test_guard.py -k grace"
	$(VENV)/bin/pytest $(PYTEST_PARALLEL) $(PYTEST)

# Where Debian's python3-venv is missing, the machine's own pip fills the environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(VENV)/bin/python install pip; }

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(PIP) install --quiet '.[test]'
	touch $@

$(VENV)/checkers: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet '.[test,check]'
	touch $(VENV)/installed $@

$(VENV)/recipes: $(VENV)/installed
	$(PIP) install --quiet '.[test,recipes]'
	touch $@

guard: ## compile only the guard, in a second, and put it where the tests in .venv find it
	@test -e $(VENV)/installed || $(MAKE) $(VENV)/installed
	$(VENV)/bin/python -I -c 'import sys; sys.path.append("."); import build_ffi, pdeathsig; \
	    build_ffi.build_guard("$(VENV)/bin/pdeathsig-run", pdeathsig.__version__); print(pdeathsig.__path__[0])' | \
	    xargs install $(VENV)/bin/pdeathsig-run

format: $(VENV)/checkers ## rewrite the sources as `make check` wants them
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/clang-format -i $(C_FILES)

check: $(VENV)/checkers $(VENV)/installed ## lint, types, format, and the compiler's warnings as errors
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --quiet tests/test_types.py
	$(VENV)/bin/clang-format --dry-run --Werror $(C_FILES)
	PDEATHSIG_WERROR=1 $(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/werror .

# From a copy of the repository that such a user can read.
test-user: ## run the tests as an ordinary user (needs root)
	sh tests/as_user.sh $(PYTEST)

test-pythons: $(VENV)/checkers ## test one wheel, built from the sdist, on every Python of this machine
	sh tests/platforms/pythons.sh $(PYTEST)

# What it fetches stays in .cache.
test-pythons-sid: $(VENV)/checkers ## ... on CPython 3.14 and 3.15 and PyPy of Debian sid (needs root)
	sh tests/platforms/pythons_sid.sh $(PYTEST)

test-free-threaded: $(VENV)/checkers ## ... on a free-threaded CPython, built from its sources
	sh tests/platforms/free_threaded.sh $(PYTEST)

# One kernel, as one user, a sample: make test-kernels KERNELS=bookworm AS=user PYTEST="--share 40"
test-kernels: $(VENV)/checkers ## run the tests under Debian's kernels, 5.10 to sid's, in qemu (needs root)
	sh tests/platforms/kernels.sh $(PYTEST)

test-recipes: $(VENV)/recipes ## test docs/recipes.md and docs/pytest.md with the packages they name
	$(VENV)/bin/pytest $(PYTEST_PARALLEL) -rs tests/recipes tests/test_aio.py tests/test_pytest_plugin.py $(PYTEST)

# make matrix ROWS="ray dask.*" runs only those, and writes nothing down.
MATRIX := .venv-matrix
matrix: $(MATRIX)/installed ## kill the parent under real frameworks; writes docs/matrix.md
	$(MATRIX)/bin/python tests/matrix/run.py $(or $(ROWS),--write docs/matrix.md)

matrix-light: $(VENV)/recipes ## ... with the standard library and light packages only, in less time
	$(VENV)/bin/python tests/matrix/run.py --light --ways family,run --seconds 0.3 --jobs 8 $(ROWS)

test-frameworks: $(MATRIX)/installed ## test each recipe of docs/frameworks.md, with and without its lines
	$(MATRIX)/bin/python tests/matrix/run.py --ways nothing --seconds 0.5 \
	    $(or $(ROWS),'frameworks.*' clusters.dask_plugin clusters.ray_environment)

$(MATRIX)/installed: tests/matrix/requirements.txt $(SOURCES)
	test -x $(MATRIX)/bin/pip || $(MAKE) VENV=$(MATRIX) $(MATRIX)/bin/python
	$(MATRIX)/bin/python -m pip --disable-pip-version-check install --quiet -r tests/matrix/requirements.txt .
	touch $@

test-cpython: $(VENV)/checkers ## run CPython's own tests with and without us; make test-cpython PYTHONS=python3.13
	sh tests/cpython/on_pythons.sh

sanitize: $(VENV)/installed ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	sh tests/sanitized.sh $(PYTEST)

C11 := $(CC) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -g -O1

killpoints: $(VENV)/installed ## kill at every system call of every entry point, in 15 minutes; docs/killpoints.md
	$(C11) tests/killpoints/*.c -o $(VENV)/sweep
	nice $(VENV)/bin/python tests/killpoints/sweep.py $(VENV)/sweep --table docs/killpoints.md

faults: $(VENV)/installed ## let each of our system calls fail in turn; writes docs/faults.md
	$(C11) tests/faults/inject.c -o $(VENV)/inject
	PYTHONPATH=tests $(VENV)/bin/python tests/faults/inject.py $(VENV)/inject --table docs/faults.md

# Again one that failed: make chaos SEED=123 ROUNDS=1
chaos: $(VENV)/installed ## random trees of processes, a random death in each: make chaos SECONDS=600 SEED=1
	PYTHONPATH=tests $(VENV)/bin/python tests/chaos/rounds.py "$(SECONDS)" "$(SEED)" "$(ROUNDS)"

stress: $(VENV)/installed ## start children from threads while others fork: make stress SECONDS=30 SEED=1
	PYTHONPATH=tests $(VENV)/bin/python tests/stress/spawn.py $(or $(SECONDS),30) $(SEED)

# All of our C but the guard and what needs Python.h. The sanitizers' own clone would run in a child
# that shares our memory and theirs; __clone is the C library's.
LIBRARY := $(filter-out c_src/guard/% c_src/module/quick.c c_src/module/fork_exec.c,$(wildcard c_src/*/*.c))
THREADS := $(C11) -Dclone=__clone tests/stress/spawn_threads.c $(LIBRARY)
tsan: $(VENV)/bin/python ## the same in C, under ThreadSanitizer, then under the other two
	$(THREADS) -fsanitize=thread -o $(VENV)/tsan -lpthread -lrt
	TSAN_OPTIONS=die_after_fork=0:suppressions=tests/stress/tsan.supp $(VENV)/tsan $(or $(SECONDS),20) $(SEED)
	$(THREADS) -fsanitize=address,undefined -fno-sanitize-recover=undefined -o $(VENV)/asan -lpthread -lrt
	$(VENV)/asan $(or $(SECONDS),20) $(SEED)

valgrind: $(VENV)/bin/python ## the same in C, under Memcheck and Helgrind
	$(THREADS:-Dclone=__clone=) -o $(VENV)/spawn_threads -lpthread -lrt
	sh tests/stress/valgrind.sh $(VENV)/spawn_threads $(or $(SECONDS),10) $(SEED)

fuzz: $(VENV)/installed ## feed random input, grown from seeds, to all parsers: make fuzz SECONDS=60
	$(PIP) install --quiet '.[test,fuzz]' || echo "no atheris for this Python"
	sh tests/fuzz/run.sh $(VENV)/bin/python $(or $(SECONDS),60)

bench: $(VENV)/installed ## run benchmarks/, write docs/benchmarks.md; BENCH="--quick --page /tmp/page.md"
	$(VENV)/bin/python benchmarks/_page.py $(BENCH)

clean: ## remove all that was built or fetched
	rm -rf $(VENV) $(MATRIX) build dist .cache
