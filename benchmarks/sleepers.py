"""The tree of sleepers.c, of Python processes that fork, as a server's workers are."""

import os
import sys

CHILDREN = 10


def subtrees(size: int) -> list[int]:
    """How large those of the children are, in a tree of so many."""
    below = size - 1
    return [below // CHILDREN + (i < below % CHILDREN) for i in range(CHILDREN)]


def main() -> None:
    sizes = subtrees(int(sys.argv[1]))
    while sizes:
        size = sizes.pop()
        if size > 0 and os.fork() == 0:
            sizes = subtrees(size)
    os.write(1, b".")
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main()
