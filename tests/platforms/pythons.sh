#!/bin/sh
# Run the tests with one wheel, built from the sdist, on every installed Python from 3.10 on. A
# free-threaded Python builds its own. Arguments go to pytest.
set -eu
. tests/platforms/wheel.sh
one_wheel
tried=0
failed=0
found=$(ls -d "$HOME"/.pyenv/versions/3.1[0-9]*/bin/python /usr/bin/python3.1[0-9] 2>/dev/null || true)
for python in ${PYTHONS:-$found}; do
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 18))' || continue
    "$python" -m venv "$dist/venv" 2>/dev/null ||
        { echo "$python: no venv module, skipped"; rm -rf "$dist/venv"; continue; }
    package=$wheel
    kind=
    if "$python" -c 'import sys, sysconfig; sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED"))'; then
        package=$sdist # it has a stable ABI only from 3.15 on
        kind=", free-threaded"
    fi
    quietly "$dist/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$package[test]"
    "$dist/venv/bin/pytest" -q $PYTEST_PARALLEL --junitxml="$dist/$(id -un).xml" "$@" || true
    version=$("$python" -c 'import platform; print(platform.python_version())')
    .venv/bin/python tests/platforms/record.py --given="$*" interpreters "CPython ${version%.*}$kind" "$version" \
        "$dist/$(id -un).xml" || failed=$((failed + 1))
    rm -rf "$dist/venv" "$dist"/*.xml
    tried=$((tried + 1))
done
echo "passed on $((tried - failed)) of $tried Pythons"
[ $tried -gt 0 ] && [ $failed -eq 0 ]
