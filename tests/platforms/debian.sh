# Other Debian releases, for the scripts in this folder. The mirror, the keys and the proxy are
# those of this machine's apt; its configuration does not change. Downloads stay in $cache; remove
# that folder to download again.
. tests/platforms/wheel.sh
cache=$(pwd)/.cache
mkdir -p "$cache"

# Install the Debian package of a command that is missing: need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null && return
    quietly sh -c "apt-get update && apt-get install --yes --no-install-recommends $2"
}

[ "$(id -u)" = 0 ] || { echo "needs root: debootstrap makes a whole Debian in a directory"; exit 1; }
need debootstrap debootstrap

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' |
    grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "apt on this machine has no Debian mirror"; exit 1; }
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy https_proxy

# Install a small Debian in $cache/SUITE, with packages: debian SUITE PACKAGE,...
debian() {
    [ "$(cat "$cache/$1/packages" 2>/dev/null)" = "$2" ] && return
    rm -rf "${cache:?}/$1"
    quietly debootstrap --variant=minbase --include="$2" "$1" "$cache/$1" "$mirror"
    rm -rf "$cache/$1"/var/cache/apt/* "$cache/$1"/var/lib/apt/lists/*
    echo "$2" >"$cache/$1/packages"
}

# Download the newest kernel of a suite, by apt in a root of its own: kernel SUITE DIRECTORY
kernel() {
    [ -e "$2/vmlinuz" ] && return
    mkdir -p "$2/lists/partial" "$2/archives/partial"
    echo "deb $mirror $1 main" >"$2/sources.list"
    : >"$2/status"
    options="-o Dir::Etc::SourceList=$2/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$2/lists
        -o Dir::State::Status=$2/status -o Dir::Cache=$2"
    quietly apt-get $options update
    package=$(apt-cache $options depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image\)/\1/p')
    # From Linux 7 on, the binary is a separate package.
    binary=$(apt-cache $options depends "$package" | sed -n 's/.*Depends: \(linux-binary\)/\1/p')
    package=${binary:-$package}
    (cd "$2" && quietly apt-get $options download "$package")
    dpkg-deb --fsys-tarfile "$2/$package"_*.deb | tar -x -O --wildcards '*/vmlinuz*' >"$2/vmlinuz.new"
    rm -r "$2"/lists "$2"/archives "$2"/*.deb
    mv "$2/vmlinuz.new" "$2/vmlinuz"
}

# Install pdeathsig and what its tests need in a virtual environment there: python_in ROOT PYTHON
python_in() {
    rm -rf "$1/wheels" "$1/venv"
    quietly chroot "$1" "$2" -m venv /venv
    case $2 in
    pypy*) # its cffi is built in, and it has no stable ABI
        quietly .venv/bin/python -m pip download --dest "$1/wheels" setuptools pycparser \
            pytest pytest-timeout pytest-rerunfailures pytest-xdist
        cp "$sdist" "$1/wheels"
        quietly chroot "$1" /venv/bin/pip install --no-index --find-links /wheels setuptools
        quietly chroot "$1" /venv/bin/pip install --no-cache-dir --no-index --find-links /wheels \
            --no-build-isolation 'pdeathsig[test]'
        ;;
    *)
        quietly .venv/bin/python -m pip download --only-binary=:all: --dest "$1/wheels" --python-version "${2#python}" \
            --platform "linux_$(uname -m)" --platform "manylinux2014_$(uname -m)" \
            --platform "manylinux_2_28_$(uname -m)" "$wheel[test]"
        quietly chroot "$1" /venv/bin/pip install --no-index --find-links /wheels 'pdeathsig[test]'
        ;;
    esac
}

# Run a command there, in the copy of this repository: inside ROOT COMMAND ...
inside() {
    unshare --mount sh -c '
        root=$1
        shift
        mount --bind "$root" "$root" && # unshare(1) demands that its root is a mount point
            mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" &&
            exec chroot "$root" env -i -C /tests HOME=/root PATH=/usr/bin:/usr/sbin "$@"' sh "$@"
}

# Copy the files of this repository, as they are now: copy_tests ROOT
copy_tests() {
    rm -rf "$1/tests"
    mkdir "$1/tests"
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- | tar --extract --directory="$1/tests"
    chroot "$1" /venv/bin/python -m compileall -q /tests/tests || true
}
