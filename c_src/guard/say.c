/* One line on stderr. */
#include "guard.h"

#include <fcntl.h>
#include <unistd.h>

enum { LINE = 512 };

static char *add_some(char *at, const char *end, const char *text)
{
    while (text != NULL && *text != '\0' && at < end)
        *at++ = *text++;
    return at;
}

void say(int fd, const char *a, const char *b, const char *c, const char *d)
{
    char line[LINE];
    const char *end = line + LINE - 1;
    char *at = add_some(line, end, "pdeathsig-run: ");
    at = add_some(add_some(at, end, a), end, b);
    at = add_some(add_some(at, end, c), end, d);
    *at++ = '\n';
    sys3(SYS_write, fd, line, at - line);
}

void fail(const struct guard *guard, int error, const char *what)
{
    report_failure(guard, GUARD_FAILED, error);
    if (guard->options.control < 0)
        say(STDERR_FILENO, what, ": ", error_text(error), NULL);
    leave(NOT_STARTED);
}

void must_prctl(const struct guard *guard, int option, long value)
{
    long r = sys5(SYS_prctl, option, value, 0, 0, 0);
    if (r < 0)
        fail(guard, (int)-r, "prctl");
}

/* The command's stderr is not ours to keep open: it is opened anew for one line, and only if nobody has to be waited
 * for. */
void warn(const struct guard *guard, const char *a, const char *b, const char *c, const char *d)
{
    char path[64];
    if (guard->error_path < 0)
        return;
    add_number(add_text(path, "/proc/self/fd/"), (uint64_t)guard->error_path);
    long fd = sys4(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    say((int)fd, a, b, c, d);
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
