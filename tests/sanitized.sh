#!/bin/sh
# Run the tests with the extension under AddressSanitizer and UndefinedBehaviorSanitizer. Leaks are
# not reported, because the interpreter itself does not free all memory at exit.
set -eu
repo=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$repo/.venv/bin/python" -m venv "$work/venv"
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1" \
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$repo[test]" 2>/dev/null
for file in "$work"/venv/lib/python3*/site-packages/pdeathsig/_ffi.abi3.so "$work/venv/bin/pdeathsig-run"; do
    for sanitizer in __asan __ubsan; do
        nm -D "$file" | grep -q $sanitizer || { echo "$file: no $sanitizer"; exit 1; }
    done
done
runtime=$(gcc -print-file-name=libasan.so)
export LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0:handle_segv=0:allocator_may_return_null=1
# test_faults.py is left out: the sanitizers make system calls too, and do not tolerate a failing
# one.
"$work/venv/bin/pytest" -q $PYTEST_PARALLEL --ignore=tests/test_faults.py "$@"
