#!/bin/sh
# Build the sdist, one wheel from it, and run the tests with that wheel on every Python from 3.10 on that is here.
set -eu
repo=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$repo/.venv/bin/python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel=$(ls "$work"/dist/*-cp310-abi3-linux_*.whl)
echo "one wheel: $(basename "$wheel")"
tried=0
for python in ${PYTHONS:-$(ls -d "$HOME"/.pyenv/versions/3.1[0-9]*/bin/python /usr/bin/python3.1[0-9] 2>/dev/null || true)}; do
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 18))' || continue
    echo "== $("$python" --version) ($python)"
    "$python" -m venv "$work/venv" 2>/dev/null || { echo "   no venv module, skipped"; rm -rf "$work/venv"; continue; }
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel[test]" 2>/dev/null
    "$work/venv/bin/pytest" -q "$@"
    rm -rf "$work/venv"
    tried=$((tried + 1))
done
echo "passed on $tried Pythons"
[ $tried -gt 0 ]
