# Build one wheel from the sdist, for the scripts in this folder. Sets $dist, $sdist and $wheel.

# Run a command, and show its output only if it fails.
quietly() {
    output=$("$@" 2>&1) || { echo "$*"; echo "$output"; exit 1; }
}

one_wheel() {
    dist=$(mktemp -d)
    trap 'rm -rf "$dist"' EXIT
    quietly .venv/bin/python -m build --outdir "$dist" .
    sdist=$(ls "$dist"/*.tar.gz)
    wheel=$(ls "$dist"/*-cp310-abi3-linux_*.whl)
    echo "one wheel: $(basename "$wheel")"
}
