"""The tree of sleepers.c, made of forked Pythons, like a server's workers."""

import os
import sys

CHILDREN = 10


def subtrees(size: int) -> list[int]:
    """The sizes of the children's subtrees in a tree of that size."""
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
