/* Descriptors: the guard needs a few, and keeps none of the command's. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>

/* With none left, up to the hard limit; the command gets its own limit back. */
static bool make_room(struct guard *guard)
{
    if (guard->limit_was_raised || sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &guard->limit) < 0)
        return false;
    const struct limit raised = {guard->limit.hard, guard->limit.hard};
    guard->limit_was_raised = sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) == 0;
    return guard->limit_was_raised;
}

long with_room(struct guard *guard, long n, long a, long b, long c, long d)
{
    long result = sys4(n, a, b, c, d);
    return result == -EMFILE && make_room(guard) ? sys4(n, a, b, c, d) : result;
}

void set_close_on_exec(int fd)
{
    if (fd >= 0)
        sys3(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
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

/* -1 among them is nobody. */
void keep_only(const int *keep, int count)
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
