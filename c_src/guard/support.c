/* The little of a C library that the guard needs: signals, the clock, descriptors, lines on stderr,
 * and how it exits. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
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

/* Of stderr: it does not block. */
enum { WRITE_ONLY = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };

void print_line(int fd, const char *const *parts)
{
    char line[512];
    const char *end = line + sizeof line - 1;
    char *at = add_text(line, "pdeathsig-run: ");
    for (; *parts != NULL; parts++) {
        for (const char *text = *parts; *text != '\0' && at < end; text++)
            *at++ = *text;
    }
    *at++ = '\n';
    long sent = sys6(SYS_sendto, fd, (long)line, at - line, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    if (sent < 0 && sent != -EAGAIN) /* it is no socket */
        sys3(SYS_write, fd, line, at - line);
}

/* The guard must not keep the command's stderr open: a pipe's reader waits for its end. So it is
 * opened for one line, and only if that does not block. A file may stay open, and must: opened anew
 * it has an offset of its own, and the command would write over that line.
 *
 * hold: keep it open, for --verbose. The reader may be gone once the command has ended. */
void open_stderr(struct guard *guard, int from, bool hold)
{
    char path[PROC_PATH_SIZE];
    const bool is_file = sys3(SYS_lseek, from, 0, SEEK_CUR) >= 0;
    long fd = -ENXIO; /* as of a socket: it cannot be opened anew */
    add_number(add_text(path, "/proc/self/fd/"), (uint64_t)from);
    if (hold && !is_file)
        fd = open_descriptor(guard, SYS_openat, AT_FDCWD, (long)path, WRITE_ONLY, 0);
    if ((hold || is_file) && fd == -ENXIO)
        fd = open_descriptor(guard, SYS_fcntl, from, F_DUPFD_CLOEXEC, STDERR_FILENO + 1, 0);
    guard->stderr_is_path = fd < 0;
    if (fd < 0)
        fd = open_descriptor(guard, SYS_openat, AT_FDCWD, (long)path, O_PATH | O_CLOEXEC, 0);
    guard->stderr_fd = (int)fd;
}

void warn(const struct guard *guard, const char *const *parts)
{
    char path[PROC_PATH_SIZE];
    long fd = guard->stderr_fd;
    if (fd >= 0 && guard->stderr_is_path) {
        add_number(add_text(path, "/proc/self/fd/"), (uint64_t)fd);
        fd = sys4(SYS_openat, AT_FDCWD, path, WRITE_ONLY, 0);
    }
    if (fd < 0)
        return;
    print_line((int)fd, parts);
    if (guard->stderr_is_path)
        sys1(SYS_close, fd);
}

void tell(const struct guard *guard, const char *const *parts)
{
    if (guard->options.verbose)
        warn(guard, parts);
}

static const char *add_pid(char *name, size_t length, pid_t pid)
{
    for (char *at = name; at < name + length; at++) {
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = '?'; /* a name may hold anything, also the end of a line */
    }
    add_text(add_number(add_text(name + length, " ["), (uint64_t)pid), "]");
    return name;
}

const char *name_process(char *name, pid_t pid)
{
    enum { LONGEST = 16 }; /* TASK_COMM_LEN, with the end of the line */
    char path[PROC_PATH_SIZE];
    long length = 0;
    proc_path(path, pid, "/comm");
    long fd = pid != 0 && proc_is_ours() ? proc_open(path, 0) : -1;
    if (fd >= 0) {
        length = sys3(SYS_read, fd, name, LONGEST);
        sys1(SYS_close, fd);
    }
    if (length > 1)
        return add_pid(name, (size_t)length - 1, pid);
    if (pid == 0) /* outside this PID namespace: getppid(2) */
        return "the caller";
    add_number(add_text(name, "process "), (uint64_t)pid);
    return name;
}

/* Its name in /proc is the guard's until the exec, and gone at its end. */
const char *name_command(char *name, const struct guard *guard)
{
    enum { LONGEST = 32 };
    const char *base = guard->options.command[0];
    size_t length = 0;
    for (const char *at = base; at != NULL && *at != '\0'; at++) {
        if (*at == '/')
            base = at + 1;
    }
    for (; base != NULL && base[length] != '\0' && length < LONGEST; length++)
        name[length] = base[length];
    return add_pid(name, length, guard->child.pid);
}

const char *name_duration(char *name, int64_t ns)
{
    const int64_t second = 1000000000;
    const bool whole = ns % second == 0;
    add_text(add_number(name, (uint64_t)(whole ? ns / second : ns / 1000000)), whole ? " s" : " ms");
    return name;
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
