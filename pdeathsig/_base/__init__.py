"""What every other room stands on: the extension, checks, the environment, /proc, patching."""
