#!/bin/sh
# PID 1 of a guest of kernels.sh: run the tests as root and as a user, write the results to the
# second serial line, and end the machine.
export PATH=/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /results
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
uname -r >/results/release
mkdir -m 777 /tmp/user
# test_killpoints.py starts thousands of processes, which takes hours on an emulated processor.
[ "$TESTS_SLOWNESS" = 1 ] || rm /tests/tests/test_killpoints.py

cd /tests
as_root() { setsid --wait "$@"; }
as_user() { HOME=/tmp/user setsid --wait setpriv --reuid 12345 --regid 12345 --clear-groups --no-new-privs "$@"; }
for user in $(echo "$TESTS_AS" | tr , " "); do
    as_$user /venv/bin/pytest -q --color=no -p no:cacheprovider --timeout-method=signal \
        --timeout=$((20 * TESTS_SLOWNESS)) --junitxml=/tmp/user/$user.xml $(cat /pytest)
    mv /tmp/user/$user.xml /results
done </dev/null >/dev/console 2>&1

stty -F /dev/ttyS1 raw
tar -cf /dev/ttyS1 -C /results .
sync
echo b >/proc/sysrq-trigger
