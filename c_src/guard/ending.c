/* Ending all that is below this process, which is a subreaper. */
#include "guard.h"

#include <sys/wait.h>
#include <time.h>

#define MS INT64_C(1000000)

/* Rounds of SIGKILL before the tree is stopped first: it grows faster than it dies. */
enum { PLAIN_ROUNDS = 2, STOPPING_PASSES = 50 };
/* For a plain round, and at least for asking: where thousands take the processor, each look at one
 * takes long. */
static const int64_t ROUND_TIME = 200 * MS;
/* After SIGKILL: for a resource tracker to clean up when the others are gone; for those that may
 * not be signalled, or reaped; for those that wait in the kernel. */
static const int64_t LONGEST_WAIT = 600 * MS;
static const int64_t TRACKER_TIME = 2000 * MS, DENIED_TIME = 1000 * MS, STUCK_TIME = 10000 * MS;

/* One walk over all that is in scope. */
struct scan {
    struct guard *guard;
    int sig;                                                                /* 0: just look */
    int64_t until;                                                          /* then it is cut short; 0: never */
    void (*tell)(const struct guard *guard, const struct process *process); /* of each; NULL: no */
    bool spare_trackers, only_dead, cut_short;
    int living, trackers, denied;
    uint64_t digest; /* of PIDs and start times: the same twice means the same processes */
    pid_t other;     /* one that is no child of ours: no SIGCHLD tells of its end */
};

static bool in_scope(const struct guard *guard, const struct process *process)
{
    switch (guard->options.scope) {
    case SCOPE_CHILD:
        return process->pid == guard->child.pid;
    case SCOPE_GROUP:
        return process->group == guard->group;
    default:
        return true;
    }
}

static void tell_survivor(const struct guard *guard, const struct process *process)
{
    char name[NAME_SIZE];
    warn(guard, PARTS(name_process(name, process->pid),
                      " could not be ended: ", process->state == 'D' ? "it is in the kernel" : "not permitted"));
}

static void tell_asked(const struct guard *guard, const struct process *process)
{
    char name[NAME_SIZE], sig[NAME_SIZE];
    tell(guard, PARTS(name_signal(sig, guard->options.sig), " to ", name_process(name, process->pid)));
}

static void tell_left(const struct guard *guard, const struct process *process)
{
    char name[NAME_SIZE];
    tell(guard, PARTS(name_process(name, process->pid), " has not ended: SIGKILL"));
}

static void visit(struct walk *walk, const struct process *process, int pidfd)
{
    struct scan *scan = walk->with;
    walk->over = scan->until != 0 && now_ns() > scan->until;
    if (!in_scope(scan->guard, process))
        return;
    scan->living++;
    scan->digest += (uint64_t)process->pid * (uint64_t)process->pid + process->start;
    if (process->parent != walk->root)
        scan->other = process->pid;
    if (scan->sig != 0 && scan->spare_trackers && process_tracker(process) != NO_TRACKER) {
        scan->trackers++;
        return;
    }
    if (scan->tell != NULL)
        scan->tell(scan->guard, process);
    if (scan->sig == 0)
        return;
    if (process_signal(process, pidfd, scan->sig) == -EPERM)
        scan->denied++;
    else if (scan->sig != SIGKILL && scan->sig != SIGSTOP)
        process_signal(process, pidfd, SIGCONT); /* a stopped one must act on it too */
}

/* Where /proc does not show them (hidepid, or no /proc): waitid(2) knows the children, one number
 * at a time. Their children follow as they die. */
static void visit_unseen(struct walk *walk)
{
    enum { LAST_PID = 4194304 };
    struct guard *guard = ((struct scan *)walk->with)->guard;
    pid_t first = 2, last = LAST_PID;
    if (guard->options.scope == SCOPE_CHILD)
        first = last = guard->child.pid;
    for (pid_t pid = first; pid <= last; pid++) {
        if (is_our_child(pid)) {
            struct process process = {.pid = pid, .parent = walk->root, .state = '?'};
            process.group = (pid_t)sys1(SYS_getpgid, pid);
            visit(walk, &process, -1);
        }
    }
}

/* If none of them can be reaped, another process traces them, and has not let go (ptrace(2)). */
static bool all_dead(const struct links *listed)
{
    struct process process;
    for (size_t i = 0; i < listed->count; i++) {
        if (process_read(listed->list[i].pid, &process) < 0 || process_alive(&process))
            return false;
    }
    return listed->count > 0;
}

static void scan_once(struct scan *scan)
{
    struct walk walk = {.signals = scan->sig != 0, .stops = scan->sig == SIGSTOP, .visit = visit, .with = scan};
    walk.root = walk.reaper = (pid_t)sys0(SYS_getpid);
    scan->living = scan->trackers = scan->denied = scan->other = 0;
    scan->digest = 0;
    int visited = tree_walk(&walk);
    scan->cut_short = walk.over;
    if (visited == 0 && all_children_live())
        visited = tree_walk(&walk); /* one became a child meanwhile: some scans take seconds */
    scan->only_dead = visited == 0 && all_dead(&walk.found) && all_children_live();
    if (visited < 0 || (visited == 0 && !scan->only_dead && all_children_live()))
        visit_unseen(&walk);
    links_free(&walk.found);
}

bool nothing_left(struct guard *guard)
{
    if (guard->options.scope == SCOPE_CHILD)
        return guard->child.state == CHILD_ENDED;
    if (no_child_left())
        return true;
    if (guard->options.scope == SCOPE_TREE)
        return false;
    struct scan scan = {.guard = guard};
    scan_once(&scan);
    return scan.living == 0;
}

void ask_to_end(struct guard *guard, int64_t until)
{
    struct scan scan = {.guard = guard, .sig = guard->options.sig, .spare_trackers = true};
    const int64_t at_least = now_ns() + ROUND_TIME;
    char grace[NAME_SIZE];
    scan.until = until > at_least ? until : at_least;
    if (guard->options.verbose)
        scan.tell = tell_asked;
    scan_once(&scan);
    if (scan.living > 0)
        tell(guard, PARTS("waiting for their end, up to ", name_duration(grace, guard->options.grace_ns)));
}

void tell_what_is_left(struct guard *guard)
{
    struct scan scan = {.guard = guard, .tell = tell_left};
    if (guard->options.verbose && !nothing_left(guard))
        scan_once(&scan);
}

int open_group_member(struct guard *guard)
{
    if (guard->options.scope != SCOPE_GROUP)
        return -1;
    struct scan scan = {.guard = guard};
    scan_once(&scan);
    return scan.other == 0 ? -1 : (int)sys2(SYS_pidfd_open, scan.other, 0);
}

/* What is stopped cannot fork: when two passes see the same processes, those are all. */
static void stop_all(struct guard *guard, bool spare_trackers)
{
    struct scan scan = {.guard = guard, .sig = SIGSTOP, .spare_trackers = spare_trackers};
    uint64_t before = 0;
    for (int i = 0; i < STOPPING_PASSES; i++) {
        scan_once(&scan);
        if (scan.digest == before)
            break;
        before = scan.digest;
    }
}

/* Until none is left (true), or until none has ended for so long. */
static bool wait_for_ends(struct guard *guard, int64_t quiet_ns)
{
    const uint64_t sigchld = signal_bit(SIGCHLD);
    const struct timespec quiet = {.tv_sec = 0, .tv_nsec = quiet_ns};
    const int64_t until = now_ns() + LONGEST_WAIT;
    for (;;) {
        enum remaining remaining = reap(guard, NULL);
        if (remaining == NONE_LEFT || (guard->options.scope == SCOPE_CHILD && guard->child.state == CHILD_ENDED))
            return true;
        if (remaining == MORE_TO_REAP && now_ns() < until)
            continue;
        if (sys4(SYS_rt_sigtimedwait, &sigchld, NULL, &quiet, sizeof sigchld) == -EAGAIN || now_ns() > until)
            return nothing_left(guard);
    }
}

bool end_at_once(struct guard *guard)
{
    const int64_t begun = now_ns();
    int64_t quiet_ns = 4 * MS, others_gone = 0, only_dead = 0;
    struct scan scan = {.guard = guard, .sig = SIGKILL, .spare_trackers = true};
    if (nothing_left(guard))
        return true;
    if (guard->options.scope == SCOPE_TREE)
        kill_generations(guard);
    if (nothing_left(guard))
        return true;
    for (int round = 1;; round++) {
        if (round > PLAIN_ROUNDS)
            stop_all(guard, scan.spare_trackers);
        scan.until = round > PLAIN_ROUNDS ? 0 : now_ns() + ROUND_TIME;
        scan_once(&scan);
        if (scan.cut_short && guard->options.scope == SCOPE_TREE)
            kill_groups(guard);
        if (wait_for_ends(guard, quiet_ns))
            return true;
        if (scan.cut_short)
            continue; /* what it counted is not all */
        const int64_t now = now_ns();
        if (scan.trackers > 0 && scan.trackers == scan.living) {
            others_gone = others_gone != 0 ? others_gone : now;
            scan.spare_trackers = now - others_gone < TRACKER_TIME;
        } else if (now - begun > 2 * TRACKER_TIME) {
            scan.spare_trackers = false; /* it starts others, as no tracker does */
        }
        only_dead = !scan.only_dead ? 0 : only_dead != 0 ? only_dead : now;
        if (now - begun > STUCK_TIME || (only_dead != 0 && now - only_dead > DENIED_TIME) ||
            (scan.living > 0 && scan.denied == scan.living && now - begun > DENIED_TIME))
            break;
        if (quiet_ns < 256 * MS)
            quiet_ns *= 2;
    }
    scan.sig = 0;
    scan.until = 0;
    scan.tell = tell_survivor;
    scan_once(&scan);
    return scan.living == 0;
}
