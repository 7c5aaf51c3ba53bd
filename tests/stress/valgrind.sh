#!/bin/sh
# valgrind.sh PROGRAM SECONDS [SEED]: spawn_threads.c under Memcheck, in each process, and under Helgrind, in the first: in those that
# it forks there is one thread only, but Helgrind goes on to see all of the parent's.
#
# At its end each process would free what libc holds, under a lock of stdio's that another thread may have had when a child was
# cloned: --run-libc-freeres=no. Valgrind makes a fork of every clone with shared memory: what only that does is for `make tsan` and the tests.
set -eu
program=$1 seconds=$2 seed=${3:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
limit="timeout -k 5 $((seconds + 120))"

$limit valgrind -q --run-libc-freeres=no --error-exitcode=9 --track-origins=yes "$program" "$seconds" "$seed"
$limit valgrind --tool=helgrind --run-libc-freeres=no --child-silent-after-fork=yes --suppressions="$(dirname "$0")/helgrind.supp" \
    --log-file="$work/log" "$program" "$seconds" "$seed"
grep -q 'ERROR SUMMARY: 0 errors' "$work/log" || { cat "$work/log"; exit 1; }
grep -o 'ERROR SUMMARY: .*' "$work/log"
