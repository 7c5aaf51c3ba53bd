#!/bin/sh
# valgrind.sh PROGRAM SECONDS [SEED]: run spawn_threads.c under Memcheck and under Helgrind.
#
# Memcheck checks each process. Helgrind checks only the first: a forked process has one thread, but
# Helgrind would still see all of the parent's.
#
# At its end Valgrind frees what libc holds, under a lock of stdio. Another thread may have held
# that lock when a child was cloned, hence --run-libc-freeres=no. Valgrind turns every clone with
# shared memory into a fork, so `make tsan` and the tests check what only such a clone does.
set -eu
program=$1 seconds=$2 seed=${3:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
limit="timeout -k 5 $((seconds + 120))"

$limit valgrind -q --run-libc-freeres=no --error-exitcode=9 --track-origins=yes "$program" "$seconds" "$seed"
$limit valgrind --tool=helgrind --run-libc-freeres=no --child-silent-after-fork=yes \
    --suppressions="$(dirname "$0")/helgrind.supp" --log-file="$work/log" "$program" "$seconds" "$seed"
grep -q 'ERROR SUMMARY: 0 errors' "$work/log" || { cat "$work/log"; exit 1; }
grep -o 'ERROR SUMMARY: .*' "$work/log"
