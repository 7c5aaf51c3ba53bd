/* For any environment and command name, the guard tries the files that execvp(3) would, in its
 * order. If there is none, it looks for an interpreter in whatever the files hold.
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
static int tries, opened;
static const uint8_t *file;
static size_t file_size;
static char tried[TRIED][LONGEST];

static long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    static const int errors[] = {ENOENT, ENOTDIR, EACCES, ENOEXEC, E2BIG, ENOENT, ENOENT, ENOENT};
    (void)d, (void)e, (void)f;
    if (n == SYS_openat)
        return opened++ % 4 == 3 ? -ENOENT : 3;
    if (n == SYS_read) {
        const size_t length = file_size < (size_t)c ? file_size : (size_t)c;
        memcpy((char *)b, file, length);
        return (long)length;
    }
    if (n == SYS_close)
        return 0;
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
void print_line(int fd, const char *const *parts)
{
    for (assert(fd == STDERR_FILENO); *parts != NULL; parts++)
        assert(strlen(*parts) < LONGEST);
}
void tell(const struct guard *guard, const char *const *parts)
{
    (void)guard, (void)parts;
}
const char *name_signal(char *name, int sig)
{
    (void)sig;
    return name;
}
const char *name_command(char *name, const struct guard *guard)
{
    (void)guard;
    return name;
}
long proc_open(const char *path, int flags)
{
    assert(strlen(path) < LONGEST);
    return sys3(SYS_openat, 0, path, flags);
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
    opened = 0;
    file = data + 1;
    file_size = size - 1;
    const int exit_status = print_exec_error(&guard, error);
    assert(exit_status == NOT_FOUND || exit_status == NOT_EXECUTABLE);
    free_strings(list);
    return 0;
}
