# `make demo` and `make test` are all a new machine needs; the rest is for those who work on pdeathsig.
PYTHON ?= python3
VENV := .venv
SOURCES := $(shell find c_src pdeathsig startup -name '*.[ch]' -o -name '*.py' -o -name '*.start' -o -name '*.pth') build_ffi.py setup.py pyproject.toml
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: demo test test-user test-pythons test-pythons-sid test-free-threaded test-kernels test-recipes test-frameworks test-cpython matrix matrix-light check sanitize fuzz valgrind killpoints faults chaos stress tsan bench clean

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
	sh tests/platforms/pythons.sh $(PYTEST)

# ... and on Debian sid's: CPython 3.14 and 3.15, PyPy. Needs root; what it fetches stays in .cache.
test-pythons-sid: $(VENV)/checkers
	sh tests/platforms/pythons_sid.sh $(PYTEST)

# ... and on a free-threaded CPython, built from its sources.
test-free-threaded: $(VENV)/checkers
	sh tests/platforms/free_threaded.sh $(PYTEST)

# Under Debian's kernels, 5.10 to sid's, in qemu. Needs root. One kernel, as one user, a sample:
# make test-kernels KERNELS=bookworm AS=user PYTEST="--share 40"
test-kernels: $(VENV)/checkers
	sh tests/platforms/kernels.sh $(PYTEST)

# docs/recipes.md and docs/pytest.md with the packages that they are about.
test-recipes: $(VENV)/installed
	$(PIP) install --quiet '.[test,recipes]'
	$(VENV)/bin/pytest -rs tests/recipes tests/test_aio.py tests/test_pytest_plugin.py $(PYTEST)

# Every way in which Python programs start processes, in real frameworks: who outlives a killed parent? docs/matrix.md.
# make matrix ROWS="ray dask.*" runs only those, and writes nothing down.
MATRIX := .venv-matrix
matrix: $(MATRIX)/installed
	$(MATRIX)/bin/python tests/matrix/run.py $(or $(ROWS),--write docs/matrix.md)

# Those that need the standard library and light packages, with a shorter look at who dies alive.
matrix-light: $(VENV)/installed
	$(PIP) install --quiet '.[test,recipes]'
	$(VENV)/bin/python tests/matrix/run.py --light --ways family,run --seconds 0.3 --jobs 8 $(ROWS)

# docs/frameworks.md: each recipe, with and without its lines.
test-frameworks: $(MATRIX)/installed
	$(MATRIX)/bin/python tests/matrix/run.py --ways nothing --seconds 0.5 $(or $(ROWS),'frameworks.*' clusters.dask_plugin clusters.ray_environment)

$(MATRIX)/installed: tests/matrix/requirements.txt $(SOURCES)
	test -x $(MATRIX)/bin/pip || $(MAKE) VENV=$(MATRIX) $(MATRIX)/bin/python
	$(MATRIX)/bin/python -m pip --disable-pip-version-check install --quiet -r tests/matrix/requirements.txt .
	touch $@

# CPython's own tests, with and without us, on every Python that is here; on one: make test-cpython PYTHONS=python3.13
test-cpython: $(VENV)/checkers
	sh tests/cpython/on_pythons.sh

check: $(VENV)/checkers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror c_src/*.h c_src/*/*.[ch] tests/*/*.c
	PDEATHSIG_WERROR=1 $(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/werror .

$(VENV)/checkers: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet '.[test,check]'
	touch $(VENV)/installed $@

# AddressSanitizer and UndefinedBehaviorSanitizer under the whole of the tests.
sanitize: $(VENV)/installed
	sh tests/sanitized.sh $(PYTEST)

C11 := $(CC) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -g -O1

# A process killed at every system call boundary of every entry point: what outlives it? A quarter of an hour.
killpoints: $(VENV)/installed
	$(C11) tests/killpoints/*.c -o $(VENV)/sweep
	nice $(VENV)/bin/python tests/killpoints/sweep.py $(VENV)/sweep --table docs/killpoints.md

# Each system call on our paths made to fail in turn: what comes of it? Writes docs/faults.md.
faults: $(VENV)/installed
	$(C11) tests/faults/inject.c -o $(VENV)/inject
	PYTHONPATH=tests $(VENV)/bin/python tests/faults/inject.py $(VENV)/inject --table docs/faults.md

# Random trees of processes, a random death in each: make chaos SECONDS=600 SEED=1; or one of them: make chaos SEED=123 ROUNDS=1
chaos: $(VENV)/installed
	PYTHONPATH=tests $(VENV)/bin/python tests/chaos/rounds.py "$(SECONDS)" "$(SEED)" "$(ROUNDS)"

# Threads that start children while others fork: make stress SECONDS=30 SEED=1
stress: $(VENV)/installed
	PYTHONPATH=tests $(VENV)/bin/python tests/stress/spawn.py $(or $(SECONDS),30) $(SEED)

# The same for our C alone, under ThreadSanitizer, then under the other two. __clone is clone without their interceptor, which
# would run in a child that shares our memory, and theirs.
THREADS := $(C11) -Dclone=__clone tests/stress/spawn_threads.c $(filter-out c_src/guard/% c_src/module/quick.c c_src/module/fork_exec.c,$(wildcard c_src/*/*.c))
tsan: $(VENV)/bin/python
	$(THREADS) -fsanitize=thread -o $(VENV)/tsan -lpthread -lrt
	TSAN_OPTIONS=die_after_fork=0:suppressions=tests/stress/tsan.supp $(VENV)/tsan $(or $(SECONDS),20) $(SEED)
	$(THREADS) -fsanitize=address,undefined -fno-sanitize-recover=undefined -o $(VENV)/asan -lpthread -lrt
	$(VENV)/asan $(or $(SECONDS),20) $(SEED)

# Random input, grown from seeds, for all that reads what others write: make fuzz SECONDS=60
fuzz: $(VENV)/installed
	$(PIP) install --quiet '.[test,fuzz]' || echo "no atheris for this Python"
	sh tests/fuzz/run.sh $(VENV)/bin/python $(or $(SECONDS),60)

# The threads of `make tsan` under Memcheck and Helgrind, which run one thread at a time.
valgrind: $(VENV)/bin/python
	$(THREADS:-Dclone=__clone=) -o $(VENV)/spawn_threads -lpthread -lrt
	sh tests/stress/valgrind.sh $(VENV)/spawn_threads $(or $(SECONDS),10) $(SEED)

# Everything in benchmarks/, into docs/benchmarks.md and its plots; a try: make bench BENCH="--quick --page /tmp/page.md"
bench: $(VENV)/installed
	$(VENV)/bin/python benchmarks/_page.py $(BENCH)

clean:
	rm -rf $(VENV) $(MATRIX) build dist .cache
