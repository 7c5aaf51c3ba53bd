/* Whose death ends everything: the process that started us, and the one named by --parent.
 *
 * A descriptor follows the process, not the thread that started us: the library's lifeline, or else a pidfd. Only where
 * there is none (before Linux 5.3; a parent outside our PID namespace) is it the parent-death signal, and getppid(2)
 * tells whether it was the process or a thread; a parent outside has no number to compare, and is believed. */
#include "guard.h"

#include <poll.h>
#include <sys/prctl.h>

static _Noreturn void nobody_asks(const struct guard *guard, const char *who)
{
    fail(guard, ESRCH, who);
}

static void follow_caller(struct guard *guard)
{
    guard->caller = (pid_t)sys0(SYS_getppid);
    if (guard->options.lifeline < 0) {
        long fd = guard->caller == 0 ? -ESRCH : with_room(guard, SYS_pidfd_open, guard->caller, 0, 0, 0);
        guard->followed[1] = fd < 0 ? -1 : (int)fd;
        guard->by_signal = fd < 0;
    }
    must_prctl(guard, PR_SET_PDEATHSIG, guard->by_signal ? NEWS : 0); /* whatever was armed before: a thread's */
    if (guard->options.lifeline < 0 && sys0(SYS_getppid) != guard->caller)
        nobody_asks(guard, "the process that started this");
}

static void follow_named(struct guard *guard)
{
    struct process process;
    pid_t pid = guard->options.parent;
    long fd = with_room(guard, SYS_pidfd_open, pid, 0, 0, 0);
    bool by_signal = guard->by_signal && pid == guard->caller; /* as the caller, then */
    bool is_it = (fd >= 0 || by_signal) && (process_read(pid, &process) < 0 || guard->options.parent_start == 0 ||
                                            process.start == guard->options.parent_start);
    if (!is_it)
        fail(guard, fd < 0 && !by_signal ? (int)-fd : ESRCH, "--parent: that process");
    guard->followed[2] = fd < 0 ? -1 : (int)fd;
}

void follow_those_who_asked(struct guard *guard)
{
    guard->followed[0] = guard->options.lifeline;
    follow_caller(guard);
    if (guard->options.parent > 0)
        follow_named(guard);
    if (asker_is_gone(guard))
        nobody_asks(guard, "the process that asked for this");
}

bool asker_is_gone(const struct guard *guard)
{
    struct pollfd polled[3];
    const struct timespec at_once = {0, 0};
    for (int i = 0; i < 3; i++)
        polled[i] = (struct pollfd){.fd = guard->followed[i], .events = POLLIN};
    return sys5(SYS_ppoll, polled, 3, &at_once, NULL, sizeof(uint64_t)) > 0;
}
