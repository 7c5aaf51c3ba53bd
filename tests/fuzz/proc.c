/* The parts of /proc that other processes choose: the name in PID/stat, the command line in
 * PID/cmdline; and random texts, which no kernel writes, as stat and as the list of children.
 *
 * The input: a byte that chooses the file, a byte that says how much a read returns, then the file.
 * */
#include "kernel.h"

#include "../../c_src/proc/process.c"
#include "../../c_src/proc/tree.c"
#include "input.h"

#include <assert.h>
#include <stdio.h>

enum { PID = 4711, NAME_MAX_ESCAPED = 64 };

static const uint8_t *file;
static size_t left, at_once;

static long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    size_t length = left;
    switch (n) {
    case SYS_openat:
        return 3;
    case SYS_read:
        length = length > (size_t)c ? (size_t)c : length;
        length = length > at_once ? at_once : length;
        memcpy((void *)b, file, length);
        file += length;
        left -= length;
        return (long)length;
    case SYS_readlinkat:
        memcpy((void *)c, "4711", 4);
        return 4;
    case SYS_getpid:
        return PID;
    case SYS_close:
    case SYS_faccessat:
        return 0;
    case SYS_mmap:
    case SYS_mremap:
    case SYS_munmap:
        a = syscall(n, a, b, c, d, e, f);
        return a == -1 ? -errno : a;
    default:
        abort();
    }
}

static void give(const uint8_t *data, size_t size)
{
    file = data;
    left = size;
}

/* No name changes how the rest of the line is read. */
static void name_in_stat(const uint8_t *data, size_t size)
{
    char text[STAT_SIZE];
    struct process process;
    size = size > NAME_MAX_ESCAPED ? NAME_MAX_ESCAPED : size;
    int length = sprintf(text, "%d (", PID);
    memcpy(text + length, data, size);
    length += (int)size;
    length += sprintf(text + length, ") S 7 8 9 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 5 0 123456 1 2 18446744073709551615 "
                                     "1 1 1 0 0 0 16384 2 66 0 0 0 17 1 0 0 0 0 0\n");
    give((const uint8_t *)text, (size_t)length);
    at_once = STAT_SIZE;
    assert(process_read(PID, &process) == 0);
    assert(process.state == 'S' && process.parent == 7 && process.group == 8 && process.threads == 5);
    assert(process.start == 123456 && process.may_be_tracker && process_alive(&process));
}

static void any_stat(const uint8_t *data, size_t size)
{
    struct process process;
    give(data, size);
    int r = process_read(PID, &process);
    assert(r == 0 || r == -ESRCH);
    if (r == 0)
        process_alive(&process);
}

static bool contains(const uint8_t *data, size_t size, const char *text)
{
    return memmem(data, size, text, strlen(text)) != NULL;
}

static void command_line(const uint8_t *data, size_t size)
{
    give(data, size);
    size = size < at_once ? size : at_once;
    if (pid_tracker(PID) == TRACKER)
        assert(contains(data, size, "torch_shm_manager") ||
               (contains(data, size, "-c") && contains(data, size, "from ") &&
                contains(data, size, ".resource_tracker import main")));
}

static void children(const uint8_t *data, size_t size)
{
    struct links links = {0};
    give(data, size);
    assert(tree_list_children(PID, &links) == 0 && links.count <= size);
    for (size_t i = 0; i < links.count; i++)
        assert(links.list[i].parent == PID && links.list[i].pid > 0 && links.list[i].pid <= PID_LIMIT);
    links_free(&links);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const ways[])(const uint8_t *data, size_t size) = {name_in_stat, any_stat, command_line, children};
    if (size < 2)
        return 0;
    at_once = data[1] == 0 ? SIZE_MAX : data[1];
    ways[data[0] & 3](data + 2, size - 2);
    return 0;
}
