/* The guard accepts a command line, with values within bounds, or refuses it with status 125. */
#define PDS_VERSION "0"
#include "kernel.h"

#include "../../c_src/guard/options.c"
#include "input.h"

#include <assert.h>
#include <setjmp.h>

static jmp_buf over;
static int status;

void exit_with(int with)
{
    status = with;
    longjmp(over, 1);
}

void print_line(int fd, const char *const *parts)
{
    size_t length = 0;
    for (; *parts != NULL; parts++)
        length += strlen(*parts);
    assert(fd == STDERR_FILENO && length > 0);
}

/* Of all descriptors, those with an even number are open. */
static long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    assert(n == SYS_fcntl || (n == SYS_write && (a == STDOUT_FILENO || a == STDERR_FILENO)));
    return n == SYS_fcntl && a % 2 ? -EBADF : 0;
}

static void check(const struct options *options, char **arguments)
{
    char **last = arguments;
    while (*last != NULL)
        last++;
    assert(options->sig >= 1 && options->sig <= 64 && !(END_NO_PROCESS & BIT(options->sig)));
    assert(options->grace_ns >= 0 && options->grace_ns <= LONGEST + 60 * SECOND);
    assert(options->timeout_ns >= 0 && options->timeout_ns <= LONGEST + 60 * SECOND);
    assert(options->scope == SCOPE_TREE || options->scope == SCOPE_GROUP || options->scope == SCOPE_CHILD);
    assert(options->parent >= 0 && options->lifeline >= -1 && options->control >= -1);
    assert(options->command >= arguments && options->command <= last);
    assert(*options->command != NULL || options->control >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char **arguments = strings_in(data, size, 64);
    struct guard guard = {0};
    if (setjmp(over) == 0) {
        read_options(&guard, arguments);
        check(&guard.options, arguments);
    } else {
        assert(status == NOT_STARTED || status == 0);
    }
    free_strings(arguments);
    return 0;
}
