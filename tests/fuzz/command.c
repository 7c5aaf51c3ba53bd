/* For any environment and command name, the guard tries the files that execvp(3) would, in its
 * order.
 *
 * The input: a byte that chooses the errors of execve(2), the name, then the environment. */
#include "kernel.h"

#include "../../c_src/guard/command.c"
#include "input.h"

#include <assert.h>
#include <stdio.h>

enum { TRIED = 64, LONGEST = 4096 };

static char **arguments;
static int chosen;
static int tries;
static char tried[TRIED][LONGEST];

static long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    static const int errors[] = {ENOENT, ENOTDIR, EACCES, ENOEXEC, E2BIG, ENOENT, ENOENT, ENOENT};
    (void)c, (void)d, (void)e, (void)f;
    assert(n == SYS_execve);
    const char *path = (const char *)a;
    assert(strlen(path) < LONGEST);
    if ((char **)b != arguments) { /* a script without #! */
        assert(strcmp(path, "/bin/sh") == 0);
        return -ENOENT;
    }
    if (tries < TRIED)
        strcpy(tried[tries], path);
    return -errors[(chosen + tries++) & 7];
}

void fail(const struct guard *guard, int error, const char *what)
{
    (void)guard, (void)error, (void)what;
    abort();
}
void exit_with(int status)
{
    (void)status;
    abort();
}
void prctl_or_fail(const struct guard *guard, int option, long value)
{
    (void)guard, (void)option, (void)value;
    abort();
}
long map_or_fail(const struct guard *guard, size_t size, int flags)
{
    (void)guard, (void)size, (void)flags;
    abort();
}
void print_line(int fd, const char *a, const char *b, const char *c, const char *d)
{
    (void)fd, (void)a, (void)b, (void)c, (void)d;
}
bool report(const struct guard *guard, enum report what, int value)
{
    (void)guard, (void)what, (void)value;
    return true;
}
void forward_signal(pid_t to, const struct signal *signal)
{
    (void)to, (void)signal;
}
uint64_t signal_bit(int sig)
{
    return (uint64_t)sig;
}
uint64_t set_mask(uint64_t mask)
{
    return mask;
}
const char *error_text(int error)
{
    (void)error;
    return "";
}

static void check(const char *name, char **environment)
{
    const char *path = "/bin:/usr/bin";
    for (char **variable = environment; *variable != NULL; variable++) {
        if (strncmp(*variable, "PATH=", 5) == 0) {
            path = *variable + 5;
            break;
        }
    }
    if (strchr(name, '/') != NULL || *name == '\0') {
        assert(tries == 1 && strcmp(tried[0], name) == 0);
        return;
    }
    for (int i = 0; i < tries && i < TRIED;) { /* each try is the next directory that is short enough */
        size_t length = strcspn(path, ":");
        char expected[2 * LONGEST];
        if (length + strlen(name) + 2 <= LONGEST) {
            snprintf(expected, sizeof expected, "%.*s%s%s", (int)length, path, length > 0 ? "/" : "", name);
            assert(strcmp(expected, tried[i]) == 0);
            i++;
        }
        assert(path[length] == ':' || i >= tries || i >= TRIED);
        path += length + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    char **list = strings_in(data + 1, size - 1, 256);
    char *command[] = {list[0], "argument", NULL};
    struct guard guard = {.environment = list + 1, .options.command = command};
    arguments = command;
    chosen = data[0];
    tries = 0;
    int error = try_path(&guard);
    assert(error > 0);
    check(list[0], list + 1);
    free_strings(list);
    return 0;
}
