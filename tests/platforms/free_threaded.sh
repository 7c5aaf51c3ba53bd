#!/bin/sh
# Run the tests on a free-threaded CPython (PEP 703), built from its sources. The sources are from
# Ubuntu's archive, because Debian's pool drops old versions. The build needs a C compiler and the
# headers of OpenSSL, libffi and zlib, and stays in .cache. Arguments go to pytest.
set -eu
. tests/platforms/wheel.sh
source=${SOURCE:-https://archive.ubuntu.com/ubuntu/pool/main/p/python3.14/python3.14_3.14.4.orig.tar.xz}
sha256=${SHA256:-d923c51303e38e249136fc1bdf3568d56ecb03214efdef48516176d3d7faaef8}
prefix=$(pwd)/.cache/free-threaded
if [ "$(cat "$prefix/sha256" 2>/dev/null)" != "$sha256" ]; then
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    rm -rf "$prefix"
    quietly .venv/bin/python -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' \
        "$source" "$build/source.tar"
    echo "$sha256  $build/source.tar" | quietly sha256sum --check
    mkdir "$build/source"
    tar -xf "$build/source.tar" -C "$build/source" --strip-components=1
    (cd "$build/source" && quietly ./configure --disable-gil --prefix="$prefix" &&
        quietly make -j"$(nproc)" && quietly make install)
    echo "$sha256" >"$prefix/sha256"
fi
PYTHONS=$(ls "$prefix"/bin/python3.*t) sh tests/platforms/pythons.sh "$@"
