/* Stopping a tree, so that none of it escapes.
 *
 * A process that forks faster than a walk finds its children would escape. So all are stopped
 * first, from the top down. Walks go on until one finds no process that is new, still runs, or is
 * in the middle of a fork with the signal blocked. Then each gets the signal (kill.c), and only
 * then they go on, from the bottom up. Otherwise a child of a dead parent could be hung up on
 * (setpgid(2), orphaned process groups), or be seen as dead too early.
 *
 * No process may stay frozen. So the call that freezes also thaws, uninterrupted. */
#include "kill.h"

#define FREEZE_AT_MOST (3000 * MILLISECOND)
#define BLOCK_PATIENCE (50 * MILLISECOND)      /* with one process that blocks the signal */
#define BLOCK_PATIENCE_ALL (200 * MILLISECOND) /* ... with all of them */

struct freezing {
    struct pds_ending *e;
    int sig;
    int64_t since;
    int64_t waited; /* for processes that block the signal */
    int error;
    bool unsettled; /* in this walk, one was new or may still run: another walk is needed */
};

/* /proc tells of the signals 1 to 31 only. */
static bool blocks(const struct activity *activity, int sig)
{
    return sig >= 1 && sig <= 31 && activity->blocked >> (sig - 1) & 1;
}

/* A process that was stopped where it blocks the signal, as bash and posix_spawn(3) do around a
 * fork. With the signal pending it would fork, and die, and no walk would find the child. So it
 * first goes on, until it blocks the signal no more. A process that sleeps blocks it always, to
 * wait for it by sigwait(3). So, it seems, does one that blocks it for long. */
static void let_it_unblock(struct freezing *freezing, struct pds_victim *victim)
{
    const int64_t since = pds_now();
    struct process process;
    if (pds_victim_send(victim, SIGCONT) < 0)
        return;
    do {
        pds_pause(MILLISECOND / 50);
        if (pds_victim_read(victim, &process) < 0)
            break;
        struct activity activity = process_activity(&process);
        if (!blocks(&activity, freezing->sig))
            break;
        if ((process.state == 'S' && process.threads == 1) || pds_now() - since > BLOCK_PATIENCE)
            victim->known |= PDS_BLOCKS;
    } while (!(victim->known & PDS_BLOCKS));
    freezing->waited += pds_now() - since;
    if (pds_victim_send(victim, SIGSTOP) < 0)
        victim->known &= ~PDS_FROZEN;
}

/* NULL: it does not belong to the tree, but has the PID of a process that did. */
static struct pds_victim *victim_of(struct freezing *freezing, const struct process *process)
{
    struct pds_ending *e = freezing->e;
    struct pds_victim *victim = pds_victim_find(e, process->pid);
    if (victim != NULL && victim->start == process->start)
        return victim;
    const struct pds_victim *parent = pds_victim_find(e, process->parent);
    if (parent == NULL || parent->pass != e->pass || process->pid <= 1 || process->pid == getpid())
        return NULL;
    int r = pds_ending_add(e, process->pid, process->start);
    if (r < 0)
        freezing->error = r;
    return r < 0 ? NULL : pds_victim_find(e, process->pid);
}

static void stop(struct freezing *freezing, struct pds_victim *victim, const struct process *process, int pidfd)
{
    if (process->state == 'T')
        victim->known |= PDS_WAS_STOPPED;
    int r = pidfd >= 0 ? process_signal(process, pidfd, SIGSTOP) : pds_victim_send(victim, SIGSTOP);
    if (r == 0)
        victim->known |= PDS_FROZEN;
    else if (r == -EPERM)
        victim->known |= PDS_REFUSED;
    else if (is_shortage(r))
        freezing->error = r;
}

/* A process that was sent SIGSTOP in an earlier walk: whether it is as it is to be now. */
static bool is_settled(struct freezing *freezing, struct pds_victim *victim, const struct process *process)
{
    struct activity activity = process_activity(process);
    if (activity.most == 'T' && !(victim->known & PDS_BLOCKS) && freezing->waited < BLOCK_PATIENCE_ALL &&
        blocks(&activity, freezing->sig)) {
        let_it_unblock(freezing, victim);
        return false;
    }
    return activity.most == 'T' || (activity.most == 'D' && pds_now() - freezing->since >= FREEZE_PATIENCE);
}

static void freeze_one(struct walk *walk, const struct process *process, int pidfd)
{
    struct freezing *freezing = walk->with;
    struct pds_victim *victim = victim_of(freezing, process);
    if (victim == NULL)
        return;
    victim->pass = freezing->e->pass;
    if (victim->known & PDS_REFUSED)
        return;
    if (process_tracker(process) == TRACKER) /* asked again once it is stopped, and so in no exec */
        victim->known |= PDS_TRACKER;
    bool frozen = victim->known & PDS_FROZEN;
    if (!frozen)
        stop(freezing, victim, process, pidfd);
    if (!frozen || !is_settled(freezing, victim, process))
        freezing->unsettled = true;
}

/* Where to walk from: the processes that have no parent among them. After a walk also those that it
 * did not reach: returns whether there are such. */
static bool mark_tops(struct pds_ending *e, bool after_walk)
{
    bool marked = false;
    for (uint32_t i = 0; i < e->count; i++) {
        struct pds_victim *victim = &e->list[i];
        struct process process;
        if (victim->known & PDS_GONE || (after_walk && victim->pass == e->pass) ||
            pds_victim_read(victim, &process) < 0)
            continue;
        const struct pds_victim *parent = pds_victim_find(e, process.parent);
        victim->top = after_walk || parent == NULL || parent->known & PDS_GONE;
        marked |= victim->top;
    }
    return marked;
}

static int walk_from_tops(const struct pds_ending *e, struct walk *walk)
{
    struct process process;
    walk->found.count = 0;
    walk->found.error = 0;
    for (uint32_t i = 0; i < e->count; i++) {
        int r = e->list[i].top ? pds_victim_read(&e->list[i], &process) : -ESRCH;
        if (is_shortage(r))
            return r;
        if (r == 0)
            links_add(&walk->found, process.pid, process.parent);
    }
    return walk->found.error < 0 ? walk->found.error : tree_walk_found(walk);
}

int pds_freeze(struct pds_ending *e, int sig)
{
    struct freezing freezing = {.e = e, .sig = sig, .since = pds_now()};
    struct walk walk = {.signals = true, .stops = true, .visit = freeze_one, .with = &freezing};
    int r = 0;
    mark_tops(e, false);
    do {
        e->pass++;
        if (!walk.signals)
            pds_pause(MILLISECOND / 10);
        freezing.unsettled = false;
        r = walk_from_tops(e, &walk);
        if (mark_tops(e, true))
            freezing.unsettled = true;
        walk.signals = false;
    } while (r >= 0 && freezing.error == 0 && freezing.unsettled && pds_now() - freezing.since < FREEZE_AT_MOST);
    links_free(&walk.found);
    if (freezing.error < 0)
        return freezing.error;
    return r < 0 ? pds_fail(-r, "open") : 0;
}

/* From the bottom up. */
void pds_thaw(struct pds_ending *e, bool stopped_before_too)
{
    for (uint32_t i = e->count; i-- > 0;) {
        struct pds_victim *victim = &e->list[i];
        if (victim->known & PDS_FROZEN && (stopped_before_too || !(victim->known & PDS_WAS_STOPPED)))
            pds_victim_send(victim, SIGCONT);
        victim->known &= ~PDS_FROZEN;
    }
}
