/* The little of a C library that the guard needs: signals, the clock, descriptors, lines on stderr,
 * and how it exits. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t signal_bit(int sig)
{
    return (uint64_t)1 << (sig - 1);
}

uint64_t set_mask(uint64_t mask)
{
    uint64_t before = 0;
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof mask);
    return before;
}

void set_default_action(int sig)
{
    unsigned long action[8] = {0};
    sys4(SYS_rt_sigaction, sig, action, NULL, sizeof(uint64_t));
}

int64_t now_ns(void)
{
    struct timespec now;
    sys2(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool raise_limit(struct guard *guard)
{
    if (guard->limit_was_raised || sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &guard->limit) < 0)
        return false;
    const struct limit raised = {guard->limit.hard, guard->limit.hard};
    guard->limit_was_raised = sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) == 0;
    return guard->limit_was_raised;
}

/* By that system call. If none is free, up to the hard limit; the command gets its limit back. */
long open_descriptor(struct guard *guard, long n, long a, long b, long c, long d)
{
    long result = sys4(n, a, b, c, d);
    return result == -EMFILE && raise_limit(guard) ? sys4(n, a, b, c, d) : result;
}

static void close_span(unsigned int first, unsigned int last)
{
    struct limit limit = {0, 0};
    if (first > last || sys3(SYS_close_range, first, last, 0) == 0)
        return;
    sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit); /* before Linux 5.9 */
    for (unsigned int fd = first; fd <= last && fd < limit.hard && fd < 1 << 20; fd++)
        sys1(SYS_close, fd);
}

/* A -1 among them is none. */
void close_all_but(const int *keep, int count)
{
    unsigned int first = 0;
    for (;;) {
        unsigned int next = UINT_MAX;
        for (int i = 0; i < count; i++) {
            if (keep[i] >= 0 && (unsigned int)keep[i] >= first && (unsigned int)keep[i] < next)
                next = (unsigned int)keep[i];
        }
        if (next == UINT_MAX)
            break;
        if (next > first)
            close_span(first, next - 1);
        first = next + 1;
    }
    close_span(first, UINT_MAX);
}

static char *add_some(char *at, const char *end, const char *text)
{
    while (text != NULL && *text != '\0' && at < end)
        *at++ = *text++;
    return at;
}

void print_line(int fd, const char *a, const char *b, const char *c, const char *d)
{
    char line[512];
    const char *end = line + sizeof line - 1;
    char *at = add_some(line, end, "pdeathsig-run: ");
    at = add_some(add_some(at, end, a), end, b);
    at = add_some(add_some(at, end, c), end, d);
    *at++ = '\n';
    sys3(SYS_write, fd, line, at - line);
}

/* The guard must not keep the command's stderr open: a pipe's reader waits for its end. So it is
 * opened for one line, and only if that does not block. */
void warn(const struct guard *guard, const char *a, const char *b, const char *c, const char *d)
{
    char path[64];
    if (guard->stderr_path < 0)
        return;
    add_number(add_text(path, "/proc/self/fd/"), (uint64_t)guard->stderr_path);
    long fd = sys4(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    print_line((int)fd, a, b, c, d);
    sys1(SYS_close, fd);
}

const char *error_text(int error)
{
    static char other[32];
    static const struct {
        int error;
        char text[34];
    } known[] = {
        {ENOENT, "No such file or directory"},
        {EACCES, "Permission denied"},
        {EPERM, "Operation not permitted"},
        {ENOEXEC, "Exec format error"},
        {ENOTDIR, "Not a directory"},
        {EISDIR, "Is a directory"},
        {E2BIG, "Argument list too long"},
        {EAGAIN, "Resource temporarily unavailable"},
        {ENOMEM, "Cannot allocate memory"},
        {EMFILE, "Too many open files"},
        {ENFILE, "Too many open files in system"},
        {ELOOP, "Too many levels of symbolic links"},
        {ENAMETOOLONG, "File name too long"},
        {ETXTBSY, "Text file busy"},
        {EIO, "Input/output error"},
        {EINVAL, "Invalid argument"},
        {ENOSYS, "Function not implemented"},
        {ESRCH, "No such process"},
        {EBADF, "Bad file descriptor"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].error == error)
            return known[i].text;
    }
    add_number(add_text(other, "error "), (uint64_t)error);
    return other;
}

void exit_with(int status)
{
    for (;;)
        sys1(SYS_exit_group, status);
}

/* With its exit status, or by the same signal, but without a core dump. */
void exit_like(const siginfo_t *end)
{
    if (end->si_code == CLD_EXITED)
        exit_with(end->si_status);
    int sig = end->si_status;
    const struct limit none = {0, 0};
    sys4(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL);
    sys2(SYS_prctl, PR_SET_DUMPABLE, 0); /* a core_pattern that names a program ignores the limit */
    set_default_action(sig);
    sys2(SYS_kill, sys0(SYS_getpid), sig);
    set_mask(~signal_bit(sig));
    exit_with(128 + sig); /* the kernel spares PID 1 of a namespace what it sends itself */
}
