#!/bin/sh
# Run the tests on the Pythons of Debian sid: CPython 3.14 and 3.15 with one wheel, PyPy with its
# own build from the sdist. Arguments go to pytest. INTERPRETERS="pypy3": that one only.
set -eu
. tests/platforms/debian.sh
sid=$cache/sid
interpreters=python3.14,python3.14-venv,python3.15,python3.15-venv,pypy3,pypy3-venv,pypy3-dev
debian sid $interpreters,gcc,libc6-dev,procps,libcap2-bin,strace
one_wheel
copy_tests "$sid"
failed=0
for python in ${INTERPRETERS:-python3.14 python3.15 pypy3}; do
    python_in "$sid" "$python"
    inside "$sid" PYPY_GC_NURSERY=4M /venv/bin/pytest -q --timeout-method=signal --junitxml=/tmp/root.xml "$@" || true
    name=$(inside "$sid" "$python" -c 'import platform
print(platform.python_implementation(), ".".join(platform.python_version_tuple()[:2]))')
    version=$(inside "$sid" "$python" -c 'import platform, sys
print(platform.python_version(), *map(str, getattr(sys, "pypy_version_info", "")[:3]))')
    mv "$sid/tmp/root.xml" "$dist/root.xml"
    .venv/bin/python tests/platforms/record.py --given="$*" interpreters "$name" "$version" "$dist/root.xml" ||
        failed=$((failed + 1))
done
[ $failed -eq 0 ]
