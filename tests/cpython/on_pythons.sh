#!/bin/sh
# Build the sdist, build one wheel from it, and run CPython's own tests with that wheel
# (contract.py) on every installed Python from 3.10 on that has these tests.
set -eu
repo=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$repo/.venv/bin/python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel=$(ls "$work"/dist/*-cp310-abi3-linux_*.whl)
tried=0
failed=0
contract() { "$work/venv/bin/python" "$repo/tests/cpython/contract.py" "$@" || failed=$((failed + 1)); }
found=$(ls -d "$HOME"/.pyenv/versions/3.1[0-9]*/bin/python /usr/bin/python3.1[0-9] 2>/dev/null || true)
for python in ${PYTHONS:-$found}; do
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 18))' || continue
    echo "== $("$python" --version) ($python)"
    "$python" -c 'import test.test_subprocess, test.test_asyncio.test_subprocess' 2>/dev/null ||
        { echo "   comes without its tests, skipped"; continue; }
    "$python" -m venv "$work/venv" 2>/dev/null || { echo "   no venv module, skipped"; rm -rf "$work/venv"; continue; }
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel" 2>/dev/null
    contract test.test_subprocess popen
    contract test.test_subprocess install
    contract test.test_asyncio.test_subprocess install
    contract test.test_posix install
    rm -rf "$work/venv"
    tried=$((tried + 1))
done
echo "CPython's tests: tried on $tried Pythons, $failed runs failed"
[ $tried -gt 0 ] && [ $failed -eq 0 ]
