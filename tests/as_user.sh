#!/bin/sh
# Run the tests as an ordinary user (UID 12345), from a copy, on a Python that this user may
# execute.
set -eu
user=12345
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { setpriv --reuid $user --regid $user --clear-groups --no-new-privs env -i HOME="$work" PATH=/usr/bin:/bin "$@"; }

python=
for candidate in "${PYTHON:-python3}" /usr/bin/python3; do
    candidate=$(command -v "$candidate") || continue
    if run "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "no Python >= 3.10 that an ordinary user may execute"; exit 1; }

tar --create --exclude='./.*' . | tar --extract --directory="$work"
chown -R $user:$user "$work"
run make -C "$work" test PYTHON="$python" PYTEST="$*"
