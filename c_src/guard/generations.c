/* SIGKILL, generation by generation: our children now; theirs, who become ours as those die; and so on. No process
 * needs to be looked at, and none can be another's: a child of ours keeps its PID until we reap it.
 *
 * It ends what a walk down the tree would, in two thirds of the time. Who outlives it (trackers, what we may not
 * signal, what grows faster than it dies) is ending.c's. */
#include "guard.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define MS INT64_C(1000000)

enum { PIDS = 1 << 22 /* PID_MAX_LIMIT */, NEWEST = 1024, FEW = 16 };

static const int64_t ALL_THE_TIME = 800 * MS, A_STORM = 200 * MS, LOOK_AGAIN = 20 * MS, QUIET = 50 * MS;

struct generations {
    uint8_t *killed; /* a bit for each PID */
    int dying;       /* killed and not reaped */
    int64_t end;     /* when one was reaped last */
    bool storm;
    uint64_t seen, known; /* where forks of one image have their robust list */
};

static bool was_killed(const struct generations *generations, pid_t pid)
{
    return generations->killed[pid / 8] & 1 << pid % 8;
}

/* A look into /proc costs more than to kill it, and is needless for a fork that has not called exec since: the C
 * library has its robust list where the parent's is (get_robust_list(2)), and no tracker is a fork. */
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
    if (pid >= PIDS || was_killed(generations, pid) || (!generations->storm && may_be_tracker(generations, pid)) ||
        sys2(SYS_kill, pid, SIGKILL) != 0)
        return;
    generations->killed[pid / 8] |= (uint8_t)(1 << pid % 8);
    generations->dying++;
}

static bool has_ended(pid_t pid)
{
    siginfo_t info;
    info.si_pid = 0;
    return sys5(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0 && info.si_pid == pid;
}

/* All of a group at once, those that are just being forked too; no tracker is spared. In a session that is not the
 * command's first, all are below us. A group is no other one as long as we have not reaped a member that cannot leave
 * it: the session's leader, or a dead one. */
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

/* The oldest first: waitid(2) looks for the dead in that order, and passes by all who live. In a storm most of them
 * have ended, and await that we reap them: those that live are the last in the list. */
static void kill_children(const struct guard *guard, struct generations *generations, const struct links *children)
{
    const size_t first = generations->storm && children->count > NEWEST ? children->count - NEWEST : 0;
    if (generations->storm)
        kill_groups_among(guard, children);
    for (size_t i = first; i < children->count; i++)
        kill_child(generations, children->list[i].pid);
}

static enum left reap_all(struct guard *guard, struct generations *generations)
{
    for (int i = 0; i < REAP_AT_ONCE; i++) {
        pid_t pid;
        int r = reap_one(guard, &pid);
        if (r <= 0)
            return r == 0 ? SOMEBODY : NOBODY;
        generations->end = now_ns();
        if (pid < PIDS && was_killed(generations, pid)) {
            generations->killed[pid / 8] &= (uint8_t)~(1 << pid % 8);
            generations->dying--;
        }
    }
    return MORE_TO_REAP;
}

/* By then about half of them are gone; and we were woken once, not at each end. Without a descriptor we are. */
static void wait_for_middle(const struct generations *generations, const struct links *children)
{
    const struct timespec longest = {.tv_sec = 0, .tv_nsec = LOOK_AGAIN};
    const pid_t pid = children->list[children->count / 2].pid;
    if (pid >= PIDS || !was_killed(generations, pid))
        return;
    struct pollfd middle = {.fd = (int)sys2(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (middle.fd < 0)
        return;
    sys5(SYS_ppoll, &middle, 1, &longest, NULL, sizeof(uint64_t));
    sys1(SYS_close, middle.fd);
}

/* Until half of them are gone: to look for their children more often costs more than it gains. False: none is left, or
 * none has ended for long: in an instant of silence, as a busy machine has, all would be looked at one by one. */
static bool wait_for_half(struct guard *guard, struct generations *generations)
{
    const uint64_t sigchld = bit(SIGCHLD);
    const struct timespec longest = {.tv_sec = 0, .tv_nsec = LOOK_AGAIN};
    const int half = generations->dying / 2;
    const int64_t until = now_ns() + LOOK_AGAIN;
    for (;;) {
        enum left left = reap_all(guard, generations);
        if (left == NOBODY)
            return false;
        const int64_t now = now_ns();
        if (generations->dying <= half || now > until)
            return now < generations->end + QUIET;
        if (left == SOMEBODY)
            sys4(SYS_rt_sigtimedwait, &sigchld, NULL, &longest, sizeof sigchld);
    }
}

void kill_generations(struct guard *guard)
{
    long at = sys6(SYS_mmap, 0, PIDS / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        return;
    const int64_t begun = now_ns(), until = begun + ALL_THE_TIME;
    struct generations generations = {.killed = (uint8_t *)at, .end = begun};
    const pid_t self = (pid_t)sys0(SYS_getpid);
    struct links children = {0};
    if (!guard->child_ended)
        kill_child(&generations, guard->child); /* it dies while we look who else is there */
    do {
        const int before = generations.dying;
        generations.storm = now_ns() > begun + A_STORM;
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
