#!/bin/sh
# run.sh PYTHON SECONDS [RUNS]: run every harness for so long, or for so many inputs, from its
# seeds. It prints how many inputs each harness got. Where clang has libFuzzer (Debian: clang
# libclang-rt-14-dev), that makes the inputs, and learns from what an input reaches. Elsewhere
# driver.c makes them, and learns nothing. For variables.py, atheris in that Python makes them.
set -eu
python=$(realpath -s "$1") seconds=$2 runs=${3:--1}
started=$(pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
export ASAN_OPTIONS=abort_on_error=1 UBSAN_OPTIONS=abort_on_error=1

if echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n && 0; }' >"$work/try.c" &&
    clang -fsanitize=fuzzer,address "$work/try.c" -o "$work/try" 2>/dev/null; then
    compile() { clang $flags -fsanitize=fuzzer "$here/$1.c" -o "$work/$1"; }
else
    echo "no libFuzzer here: inputs by chance"
    compile() { ${CC:-cc} $flags "$here/$1.c" "$here/driver.c" -o "$work/$1"; }
fi

seed() { # harness: each line of seeds/harness, as printf(1) reads it, is an input
    mkdir -p "$work/$1.seeds"
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        printf "$line" >"$work/$1.seeds/$number"
    done <"$here/seeds/$1"
}

fuzz() { # harness, command ...
    name=$1
    shift
    seed "$name"
    "$@" -max_total_time="$seconds" -runs="$runs" -seed=1 -print_final_stats=1 -max_len=1024 \
        -artifact_prefix="$started/fuzz-$name-" -close_fd_mask=1 -timeout=10 "$work/$name.seeds" 2>"$work/$name.log" ||
        { tail -40 "$work/$name.log"; echo "$name: failed; the input is in fuzz-$name-*"; exit 1; }
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
    [ "$inputs" -ge 1000 ] || { cat "$work/$name.log"; exit 1; }
    echo "$name: $inputs inputs"
}

for harness in options command proc; do
    compile $harness
    fuzz $harness "$work/$harness"
done
if "$python" -c 'import atheris' 2>/dev/null; then
    cd "$work" # not from the checkout
    fuzz variables "$python" "$here/variables.py"
else
    echo "variables: no atheris for this Python"
fi
