"""The tree of sleepers.c, of Python processes that fork, as a server's workers are."""

import os
import sys

CHILDREN = 10


def main() -> None:
    below = int(sys.argv[1]) - 1
    shares = [below // CHILDREN + (i < below % CHILDREN) for i in range(CHILDREN)]
    while shares:
        share = shares.pop()
        if share > 0 and os.fork() == 0:
            below = share - 1
            shares = [below // CHILDREN + (i < below % CHILDREN) for i in range(CHILDREN)]
    os.write(1, b".")
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main()
