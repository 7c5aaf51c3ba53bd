/* SIGKILL, generation by generation: first the children of this process; then their children, which
 * become its own as those die; and so on. It looks at no process, and hits no other one: a child
 * keeps its PID until it is reaped.
 *
 * It takes two thirds of the time of a walk down the tree. What outlives it is for ending.c:
 * resource trackers, what may not be signalled, and what grows faster than it dies. */
#include "guard.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define MS INT64_C(1000000)

enum { PIDS = 1 << 22 /* PID_MAX_LIMIT */, NEWEST = 1024, FEW = 16 };

static const int64_t TIME_LIMIT = 800 * MS, OVERLOADED_AFTER = 200 * MS, LIST_AGAIN = 20 * MS, QUIET = 50 * MS;

struct generations {
    uint8_t *killed;      /* a bit for each PID */
    int dying;            /* killed and not reaped */
    int64_t end;          /* when one was reaped last */
    bool overloaded;      /* there is no time to look at each */
    uint64_t seen, known; /* where forks of one image have their robust list */
};

static bool was_killed(const struct generations *generations, pid_t pid)
{
    return generations->killed[pid / 8] & 1 << pid % 8;
}

/* A look into /proc costs more than the kill, and a fork that has not called exec since needs none:
 * it has its robust list where its parent has it (get_robust_list(2)), and no tracker is a fork. */
static bool may_be_tracker(struct generations *generations, pid_t pid)
{
    uint64_t robust = 0;
    size_t size;
    if (sys3(SYS_get_robust_list, pid, &robust, &size) == 0 && robust != 0 && robust == generations->known)
        return false;
    if (pid_tracker(pid) != NO_TRACKER)
        return true;
    if (robust != 0 && robust == generations->seen && pid_is_placed_at_random(pid))
        generations->known = robust;
    generations->seen = robust;
    return false;
}

static void kill_child(struct generations *generations, pid_t pid)
{
    if (pid >= PIDS || was_killed(generations, pid) || (!generations->overloaded && may_be_tracker(generations, pid)) ||
        sys2(SYS_kill, pid, SIGKILL) != 0)
        return;
    generations->killed[pid / 8] |= (uint8_t)(1 << pid % 8);
    generations->dying++;
}

/* All of a group at once, with those that are being forked; no tracker is spared. In a session that
 * was made below the guard, all are below it. A group keeps its number as long as a member that
 * cannot leave it is not reaped: the session's leader, or a dead one. */
static void kill_groups_among(const struct guard *guard, const struct links *children)
{
    pid_t last = 0;
    for (size_t i = 0; i < children->count; i++) {
        const pid_t pid = children->list[i].pid;
        const bool ended = has_ended(pid);
        const pid_t session = (pid_t)sys1(SYS_getsid, pid);
        if (session <= 0 || session == guard->session || (session != pid && !ended))
            continue;
        const pid_t group = (pid_t)sys1(SYS_getpgid, pid);
        if (group > 1 && group != last)
            sys2(SYS_kill, -group, SIGKILL);
        last = group;
    }
}

void kill_groups(const struct guard *guard)
{
    struct links children = {0};
    if (tree_list_children((pid_t)sys0(SYS_getpid), &children) >= 0)
        kill_groups_among(guard, &children);
    links_free(&children);
}

/* The oldest first: waitid(2) looks for the dead in that order, and passes all that live. When
 * overloaded, most have ended and wait to be reaped: those that live are the last in the list. */
static void kill_children(const struct guard *guard, struct generations *generations, const struct links *children)
{
    const size_t first = generations->overloaded && children->count > NEWEST ? children->count - NEWEST : 0;
    if (generations->overloaded)
        kill_groups_among(guard, children);
    for (size_t i = first; i < children->count; i++)
        kill_child(generations, children->list[i].pid);
}

static enum remaining reap_all(struct guard *guard, struct generations *generations)
{
    for (int i = 0; i < REAP_AT_ONCE; i++) {
        pid_t pid;
        enum remaining remaining = reap_one(guard, &pid);
        if (remaining != MORE_TO_REAP)
            return remaining;
        generations->end = now_ns();
        if (pid < PIDS && was_killed(generations, pid)) {
            generations->killed[pid / 8] &= (uint8_t)~(1 << pid % 8);
            generations->dying--;
        }
    }
    return MORE_TO_REAP;
}

/* By then about half of them are gone, and this process was woken once, not at each end. Without a
 * descriptor it does not wait here. */
static void wait_for_middle(const struct generations *generations, const struct links *children)
{
    const struct timespec longest = {.tv_sec = 0, .tv_nsec = LIST_AGAIN};
    const pid_t pid = children->list[children->count / 2].pid;
    if (pid >= PIDS || !was_killed(generations, pid))
        return;
    struct pollfd middle = {.fd = (int)sys2(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (middle.fd < 0)
        return;
    sys5(SYS_ppoll, &middle, 1, &longest, NULL, sizeof(uint64_t));
    sys1(SYS_close, middle.fd);
}

/* Until half of them are gone: to list the children more often costs more than it gains. False:
 * none is left, or none has ended for QUIET, which is longer than a busy machine keeps still. Then
 * ending.c looks at each. */
static bool wait_for_half(struct guard *guard, struct generations *generations)
{
    const uint64_t sigchld = signal_bit(SIGCHLD);
    const struct timespec longest = {.tv_sec = 0, .tv_nsec = LIST_AGAIN};
    const int half = generations->dying / 2;
    const int64_t until = now_ns() + LIST_AGAIN;
    for (;;) {
        enum remaining remaining = reap_all(guard, generations);
        if (remaining == NONE_LEFT)
            return false;
        const int64_t now = now_ns();
        if (generations->dying <= half || now > until)
            return now < generations->end + QUIET;
        if (remaining == SOME_LEFT)
            sys4(SYS_rt_sigtimedwait, &sigchld, NULL, &longest, sizeof sigchld);
    }
}

void kill_generations(struct guard *guard)
{
    long at = sys6(SYS_mmap, 0, PIDS / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return;
    const int64_t begun = now_ns(), until = begun + TIME_LIMIT;
    struct generations generations = {.killed = (uint8_t *)at, .end = begun};
    const pid_t self = (pid_t)sys0(SYS_getpid);
    struct links children = {0};
    if (guard->child.state != CHILD_ENDED)
        kill_child(&generations, guard->child.pid); /* it dies while the others are listed */
    do {
        const int before = generations.dying;
        generations.overloaded = now_ns() > begun + OVERLOADED_AFTER;
        if (tree_list_children(self, &children) < 0)
            break;
        kill_children(guard, &generations, &children);
        if (generations.dying == 0 && before == 0)
            break;
        if (children.count > FEW)
            wait_for_middle(&generations, &children);
    } while (wait_for_half(guard, &generations) && now_ns() < until);
    links_free(&children);
    sys2(SYS_munmap, at, PIDS / 8);
}
