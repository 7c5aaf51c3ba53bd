/* The followed processes, each of which ends everything when it ends: the caller, and the one named
 * by --parent.
 *
 * A descriptor follows a process, not the thread that started the guard: the library's lifeline, or
 * else a pidfd. Before Linux 5.3, and for a caller outside the PID namespace, there is none. Then
 * the parent-death signal tells, and getppid(2) tells a process's end from a thread's; a caller
 * outside has no number to compare, so it is believed. */
#include "guard.h"

#include <poll.h>
#include <sys/prctl.h>

static void follow_caller(struct guard *guard)
{
    guard->caller = (pid_t)sys0(SYS_getppid);
    if (guard->options.lifeline < 0) {
        long fd = guard->caller == 0 ? -ESRCH : open_descriptor(guard, SYS_pidfd_open, guard->caller, 0, 0, 0);
        guard->followed[FOLLOW_CALLER] = fd < 0 ? -1 : (int)fd;
        guard->caller_by_signal = fd < 0;
    }
    /* The setting survives exec: what was armed before may be a thread's. */
    prctl_or_fail(guard, PR_SET_PDEATHSIG, guard->caller_by_signal ? CARRIER : 0);
    if (guard->options.lifeline < 0 && sys0(SYS_getppid) != guard->caller)
        fail(guard, ESRCH, "the process that started this");
}

static void follow_parent(struct guard *guard)
{
    struct process process;
    pid_t pid = guard->options.parent;
    long fd = open_descriptor(guard, SYS_pidfd_open, pid, 0, 0, 0);
    bool by_signal = guard->caller_by_signal && pid == guard->caller;
    bool is_it = (fd >= 0 || by_signal) && (process_read(pid, &process) < 0 || guard->options.parent_start == 0 ||
                                            process.start == guard->options.parent_start);
    if (!is_it)
        fail(guard, fd < 0 && !by_signal ? (int)-fd : ESRCH, "--parent: that process");
    guard->followed[FOLLOW_PARENT] = fd < 0 ? -1 : (int)fd;
}

static bool one_has_ended(const struct guard *guard)
{
    struct pollfd polled[FOLLOWED];
    const struct timespec at_once = {0, 0};
    for (int i = 0; i < FOLLOWED; i++)
        polled[i] = (struct pollfd){.fd = guard->followed[i], .events = POLLIN};
    return sys5(SYS_ppoll, polled, FOLLOWED, &at_once, NULL, sizeof(uint64_t)) > 0;
}

void follow_processes(struct guard *guard)
{
    guard->followed[FOLLOW_LIFELINE] = guard->options.lifeline;
    follow_caller(guard);
    if (guard->options.parent > 0)
        follow_parent(guard);
    if (one_has_ended(guard))
        fail(guard, ESRCH, "the process that asked for this");
}
