# One wheel for all, built from the sdist; for the scripts beside this one. Sets $dist, $sdist and $wheel.

# Run a command; show what it says only if it fails.
quietly() {
    said=$("$@" 2>&1) || { echo "$*"; echo "$said"; exit 1; }
}

one_wheel() {
    dist=$(mktemp -d)
    trap 'rm -rf "$dist"' EXIT
    quietly .venv/bin/python -m build --outdir "$dist" .
    sdist=$(ls "$dist"/*.tar.gz)
    wheel=$(ls "$dist"/*-cp310-abi3-linux_*.whl)
    echo "one wheel: $(basename "$wheel")"
}
