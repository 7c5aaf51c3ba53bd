/* The tree that benchmarks/ending.py ends: `sleepers N` is the root of a tree of N processes, each
 * with ten children at most. Each process writes a byte to stdout when its children are started.
 * Then it waits for the end of its stdin, which the benchmark holds, so that none outlives the
 * benchmark. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

enum { CHILDREN = 10 };

int main(int argc, char **arguments)
{
    int below = argc > 1 ? atoi(arguments[1]) - 1 : 0;
    char byte = '.';
    for (int i = 0; i < CHILDREN; i++) {
        int share = below / CHILDREN + (i < below % CHILDREN);
        if (share == 0)
            break;
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            below = share - 1;
            i = -1;
        }
    }
    if (write(1, &byte, 1) == 1)
        while (read(0, &byte, 1) > 0)
            ;
    return 0;
}
