/* Ending all that is below this process, which is its reaper. */
#include "guard.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS INT64_C(1000000)

/* Rounds of SIGKILL before the tree is stopped first: it grows faster than it dies. */
enum { PLAIN_ROUNDS = 2, STOPPING_PASSES = 50 };
/* For a plain round, and at least for asking: among those who leave us no time, each look at one takes long. */
static const int64_t ROUND_TIME = 200 * MS;
/* After SIGKILL, in nanoseconds: for a resource tracker to clean up when the others are gone; for those that we may not
 * signal, or reap; for those that the kernel does not let go. */
static const int64_t LONGEST_WAIT = 600 * MS;
static const int64_t TRACKER_TIME = 2000 * MS, DENIED_TIME = 1000 * MS, STUCK_TIME = 10000 * MS;

struct sweep {
    struct guard *guard;
    int sig;       /* 0: just look */
    int64_t until; /* then it is cut short; 0: never */
    bool spare_trackers, name_them, only_dead, cut_short;
    int living, trackers, denied;
    uint64_t digest;
    pid_t other; /* one that is not our child: we are not told of its end */
};

int64_t now_ns(void)
{
    struct timespec now;
    sys2(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec;
}

static void note_end(struct guard *guard, const siginfo_t *info)
{
    if (info->si_pid == guard->child && !guard->child_ended) { /* its PID may since be another's */
        guard->child_ended = true;
        guard->status = *info;
    }
}

int reap_one(struct guard *guard, pid_t *pid)
{
    siginfo_t info;
    info.si_pid = 0;
    long r = sys5(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG, NULL);
    if (r < 0 || info.si_pid == 0)
        return r == -ECHILD ? -1 : 0;
    note_end(guard, &info);
    *pid = info.si_pid;
    return 1;
}

enum left reap(struct guard *guard, void (*stopped_or_continued)(struct guard *guard, const siginfo_t *info))
{
    for (int i = 0; i < REAP_AT_ONCE; i++) {
        siginfo_t info;
        info.si_pid = 0;
        int what = WEXITED | WNOHANG | (stopped_or_continued != NULL ? WSTOPPED | WCONTINUED : 0);
        long r = sys5(SYS_waitid, P_ALL, 0, &info, what, NULL);
        if (r < 0 || info.si_pid == 0)
            return r == -ECHILD ? NOBODY : SOMEBODY;
        if (info.si_code == CLD_STOPPED || info.si_code == CLD_CONTINUED)
            stopped_or_continued(guard, &info);
        else
            note_end(guard, &info);
    }
    return MORE_TO_REAP;
}

static bool in_scope(const struct guard *guard, const struct process *process)
{
    switch (guard->options.scope) {
    case SCOPE_CHILD:
        return process->pid == guard->child;
    case SCOPE_GROUP:
        return process->group == guard->group;
    default:
        return true;
    }
}

static void name(const struct guard *guard, const struct process *process, const char *why)
{
    char number[24];
    add_number(number, (uint64_t)process->pid);
    warn(guard, "process ", number, " could not be ended: ", why);
}

static void visit(struct walk *walk, const struct process *process, int pidfd)
{
    struct sweep *sweep = walk->with;
    walk->over = sweep->until != 0 && now_ns() > sweep->until;
    if (!in_scope(sweep->guard, process))
        return;
    sweep->living++;
    sweep->digest += (uint64_t)process->pid * (uint64_t)process->pid + process->start;
    if (process->parent != walk->root)
        sweep->other = process->pid;
    if (sweep->name_them)
        name(sweep->guard, process, process->state == 'D' ? "it is in the kernel" : "not permitted");
    if (sweep->sig == 0)
        return;
    if (sweep->spare_trackers && process_tracker(process) != NO_TRACKER) {
        sweep->trackers++;
        return;
    }
    if (process_signal(process, pidfd, sweep->sig) == -EPERM)
        sweep->denied++;
    else if (sweep->sig != SIGKILL && sweep->sig != SIGSTOP)
        process_signal(process, pidfd, SIGCONT); /* a stopped one is to hear it too */
}

static bool is_our_child(pid_t pid)
{
    return sys5(SYS_waitid, P_PID, pid, NULL, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
}

/* Where /proc does not show them (hidepid, or none): waitid(2) knows our children, one number at a time. Their
 * children become ours as they die. */
static void visit_unseen(struct walk *walk)
{
    enum { LAST_PID = 4194304 };
    struct guard *guard = ((struct sweep *)walk->with)->guard;
    pid_t first = 2, last = LAST_PID;
    if (guard->options.scope == SCOPE_CHILD)
        first = last = guard->child;
    for (pid_t pid = first; pid <= last; pid++) {
        if (is_our_child(pid)) {
            struct process process = {.pid = pid, .parent = walk->root, .state = '?'};
            process.group = (pid_t)sys1(SYS_getpgid, pid);
            visit(walk, &process, -1);
        }
    }
}

/* There are children, and all of them live. */
static bool none_has_ended(void)
{
    siginfo_t info;
    info.si_pid = 0;
    return sys5(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0 && info.si_pid == 0;
}

/* With nobody to be reaped, it means that the dead have a tracer who does not let go of them (ptrace(2)). */
static bool all_dead(const struct links *listed)
{
    struct process process;
    for (size_t i = 0; i < listed->count; i++) {
        if (process_read(listed->list[i].pid, &process) < 0 || process_alive(&process))
            return false;
    }
    return listed->count > 0;
}

static void sweep_once(struct sweep *sweep)
{
    struct walk walk = {.signals = sweep->sig != 0, .stops = sweep->sig == SIGSTOP, .visit = visit, .with = sweep};
    walk.root = walk.reaper = (pid_t)sys0(SYS_getpid);
    sweep->living = sweep->trackers = sweep->denied = sweep->other = 0;
    sweep->digest = 0;
    int visited = tree_walk(&walk);
    sweep->cut_short = walk.over;
    if (visited == 0 && none_has_ended())
        visited = tree_walk(&walk); /* it may have come while we walked: the scan takes seconds */
    sweep->only_dead = visited == 0 && all_dead(&walk.found) && none_has_ended();
    if (visited < 0 || (visited == 0 && !sweep->only_dead && none_has_ended()))
        visit_unseen(&walk);
    links_free(&walk.found);
}

bool nothing_left(struct guard *guard)
{
    if (guard->options.scope == SCOPE_CHILD)
        return guard->child_ended;
    if (sys5(SYS_waitid, P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT, NULL) == -ECHILD)
        return true;
    if (guard->options.scope == SCOPE_TREE)
        return false;
    struct sweep sweep = {.guard = guard};
    sweep_once(&sweep);
    return sweep.living == 0;
}

void ask_to_end(struct guard *guard, int64_t until)
{
    struct sweep sweep = {.guard = guard, .sig = guard->options.sig, .spare_trackers = true};
    const int64_t at_least = now_ns() + ROUND_TIME;
    sweep.until = until > at_least ? until : at_least;
    sweep_once(&sweep);
}

int watch_one(struct guard *guard)
{
    if (guard->options.scope != SCOPE_GROUP)
        return -1;
    struct sweep sweep = {.guard = guard};
    sweep_once(&sweep);
    return sweep.other == 0 ? -1 : (int)sys2(SYS_pidfd_open, sweep.other, 0);
}

/* What is stopped cannot fork: when two passes see the same, that is all there is. */
static void stop_all(struct guard *guard, bool spare_trackers)
{
    struct sweep sweep = {.guard = guard, .sig = SIGSTOP, .spare_trackers = spare_trackers};
    uint64_t before = 0;
    for (int i = 0; i < STOPPING_PASSES; i++) {
        sweep_once(&sweep);
        if (sweep.digest == before)
            break;
        before = sweep.digest;
    }
}

/* Until nobody is left (true), or for so long nobody has ended. */
static bool wait_for_ends(struct guard *guard, int64_t quiet_ns)
{
    const uint64_t sigchld = bit(SIGCHLD);
    const struct timespec quiet = {.tv_sec = 0, .tv_nsec = quiet_ns};
    const int64_t until = now_ns() + LONGEST_WAIT;
    for (;;) {
        enum left left = reap(guard, NULL);
        if (left == NOBODY || (guard->options.scope == SCOPE_CHILD && guard->child_ended))
            return true;
        if (left == MORE_TO_REAP && now_ns() < until)
            continue;
        if (sys4(SYS_rt_sigtimedwait, &sigchld, NULL, &quiet, sizeof sigchld) == -EAGAIN || now_ns() > until)
            return nothing_left(guard);
    }
}

bool end_at_once(struct guard *guard)
{
    const int64_t begun = now_ns();
    int64_t quiet_ns = 4 * MS, others_gone = 0, only_dead = 0;
    struct sweep sweep = {.guard = guard, .sig = SIGKILL, .spare_trackers = true};
    if (nothing_left(guard))
        return true;
    if (guard->options.scope == SCOPE_TREE)
        kill_generations(guard);
    if (nothing_left(guard))
        return true;
    for (int round = 1;; round++) {
        if (round > PLAIN_ROUNDS)
            stop_all(guard, sweep.spare_trackers);
        sweep.until = round > PLAIN_ROUNDS ? 0 : now_ns() + ROUND_TIME;
        sweep_once(&sweep);
        if (sweep.cut_short && guard->options.scope == SCOPE_TREE)
            kill_groups(guard);
        if (wait_for_ends(guard, quiet_ns))
            return true;
        if (sweep.cut_short)
            continue; /* what it counted is not all */
        const int64_t now = now_ns();
        if (sweep.trackers > 0 && sweep.trackers == sweep.living) {
            others_gone = others_gone != 0 ? others_gone : now;
            sweep.spare_trackers = now - others_gone < TRACKER_TIME;
        } else if (now - begun > 2 * TRACKER_TIME) {
            sweep.spare_trackers = false; /* it starts others, as no tracker does */
        }
        only_dead = !sweep.only_dead ? 0 : only_dead != 0 ? only_dead : now;
        if (now - begun > STUCK_TIME || (only_dead != 0 && now - only_dead > DENIED_TIME) ||
            (sweep.living > 0 && sweep.denied == sweep.living && now - begun > DENIED_TIME))
            break;
        if (quiet_ns < 256 * MS)
            quiet_ns *= 2;
    }
    sweep.sig = 0;
    sweep.until = 0;
    sweep.name_them = true;
    sweep_once(&sweep);
    return sweep.living == 0;
}
