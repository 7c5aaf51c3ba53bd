#!/bin/sh
# Print a Python that has CPython's own tests. On Debian they are a separate package; install it
# there.
set -eu
has_tests() { "$1" -c 'import sys, test.test_subprocess; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
for python in .venv/bin/python "$HOME"/.pyenv/versions/3.1[0-9]*/bin/python /usr/bin/python3; do
    [ -x "$python" ] && has_tests "$python" && echo "$python" && exit
done
apt-get install --quiet --yes libpython3-testsuite >&2
has_tests /usr/bin/python3 && echo /usr/bin/python3
