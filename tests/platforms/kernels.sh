#!/bin/sh
# Run the tests under Debian's kernels. Each boots in qemu with a small Debian as its initramfs, so
# it needs no driver. Arguments go to pytest. KERNELS=bookworm: one kernel only. AS=root, AS=user:
# as that user only. The output of a guest is in $cache/kernel-*/console.
set -eu
. tests/platforms/debian.sh
need qemu-system-x86_64 qemu-system-x86
need cpio cpio

guest=$cache/trixie
debian trixie python3,python3-venv,gcc,libc6-dev,procps,libcap2-bin,strace
one_wheel
python_in "$guest" python3.13
copy_tests "$guest"
install -m 755 tests/platforms/init.sh "$guest/init"
echo "$*" >"$guest/pytest"
(cd "$guest" && find . -xdev ! -path './usr/share/doc/*' ! -path './usr/share/locale/*' \
    ! -path './wheels/*' ! -path './var/lib/*' |
    cpio --quiet --create --format=newc) >"$cache/initramfs"

# Without virtualization in hardware, qemu emulates the processor, which takes ten times as long.
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    accel="-accel kvm -cpu host"
    slowness=1
else
    accel="-accel tcg,thread=multi,tb-size=512 -cpu qemu64"
    slowness=20
fi
failed=0
for suite in ${KERNELS:-bullseye bookworm trixie sid}; do
    work=$cache/kernel-$suite
    mkdir -p "$work"
    kernel "$suite" "$work"
    rm -f "$work"/*.xml
    timeout "$((180 * (slowness + 5)))" qemu-system-x86_64 $accel -smp 2 -m 6G \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$work/vmlinuz" -initrd "$cache/initramfs" -append "console=ttyS0 quiet no_timer_check panic=-1 \
mitigations=off TESTS_SLOWNESS=$slowness TESTS_AS=${AS:-root,user}" \
        -serial "file:$work/console" -serial "file:$work/results.tar" || true
    tar -xf "$work/results.tar" -C "$work" 2>/dev/null ||
        { echo "$suite: no result; the end of its console:"; tail -n 20 "$work/console"; }
    release=$(cat "$work/release" 2>/dev/null || echo unknown)
    reports=$(echo "${AS:-root,user}" | sed "s|[a-z]*|$work/&.xml|g; s|,| |g")
    # shellcheck disable=SC2086
    .venv/bin/python tests/platforms/record.py --given="$*" kernels "$suite" "$release" $reports ||
        failed=$((failed + 1))
done
[ $failed -eq 0 ]
