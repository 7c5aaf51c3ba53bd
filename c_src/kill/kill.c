/* A signal to a tree or a group, and the wait for its end. */
#include "kill.h"
#include "../proc/proc.h"

#include <poll.h>
#include <time.h>

#define LOOK_AGAIN (2 * MILLISECOND) /* where no event tells */

/* From the bottom up, so that SIGKILL wakes no process by the end of its parent. */
static int send_to_all(struct pds_ending *e, int sig, int known)
{
    for (uint32_t i = e->count; i-- > 0;) {
        struct pds_victim *victim = &e->list[i];
        bool found = victim->pass == e->pass;
        if (!found || victim->known & (PDS_TRACKER | PDS_GONE | PDS_REFUSED))
            continue;
        int r = pds_victim_send(victim, sig);
        if (r == 0)
            victim->known |= known;
        else if (is_shortage(r))
            return r;
    }
    return 0;
}

/* If we give up, what was stopped before stays so. */
static int signal_tree(struct pds_ending *e, int sig, int known)
{
    int r = pds_freeze(e, sig);
    if (r == 0)
        r = send_to_all(e, sig, known);
    pds_thaw(e, r == 0);
    return r;
}

/* A process that stays in an exec for long is taken for one. */
static bool turns_out_to_be_tracker(const struct process *process)
{
    const int64_t until = pds_now() + FREEZE_PATIENCE;
    enum tracker tracker;
    while ((tracker = process_tracker(process)) == UNKNOWN_YET && pds_now() < until)
        pds_pause(MILLISECOND / 10);
    return tracker != NO_TRACKER;
}

/* Returns how many live that may be signalled, and are no resource trackers. */
static int find_members(struct pds_ending *e)
{
    struct links all = {0};
    struct process process;
    int living = 0, r = tree_list_all(&all);
    if (r < 0)
        pds_fail(-r, "open");
    for (size_t i = 0; i < all.count && r == 0; i++) {
        if (process_read(all.list[i].pid, &process) < 0 || process.group != e->group || !process_alive(&process))
            continue;
        struct pds_victim *victim = pds_victim_find(e, process.pid);
        if (victim == NULL || victim->start != process.start) {
            r = pds_ending_add(e, process.pid, process.start);
            if (r < 0)
                break;
            victim = pds_victim_find(e, process.pid);
            pds_victim_send(victim, 0); /* may we? */
        }
        if (turns_out_to_be_tracker(&process))
            victim->known |= PDS_TRACKER;
        living += !(victim->known & (PDS_REFUSED | PDS_TRACKER));
    }
    links_free(&all);
    return r < 0 ? r : living;
}

static bool has_tracker(const struct pds_ending *e)
{
    for (uint32_t i = 0; i < e->count; i++) {
        if ((e->list[i].known & (PDS_TRACKER | PDS_GONE)) == PDS_TRACKER)
            return true;
    }
    return false;
}

/* kill(2) reaches all members at once, those being forked too. SIGKILL would reach a resource
 * tracker as well: where there is one, the group is stopped at once, and then killed one by one. */
static int signal_group(struct pds_ending *e, int sig, int known)
{
    int r = find_members(e);
    if (r <= 0)
        return r;
    if (e->group <= 1 || e->group == getpgrp())
        return pds_fail(EINVAL, "kill");
    bool one_by_one = sig == SIGKILL && has_tracker(e);
    if (kill(-e->group, one_by_one ? SIGSTOP : sig) < 0)
        return errno == ESRCH || errno == EPERM ? 0 : pds_fail(errno, "kill");
    for (uint32_t i = 0; i < e->count && !one_by_one; i++)
        e->list[i].known |= e->list[i].known & (PDS_REFUSED | PDS_GONE | PDS_TRACKER) ? 0 : known;
    r = find_members(e);
    if (one_by_one && r >= 0)
        r = send_to_all(e, SIGKILL, known);
    if (sig != SIGKILL || one_by_one)
        kill(-e->group, SIGCONT);
    return r < 0 ? r : 0;
}

/* All signals are blocked: none may end this thread half-way. */
int pds_ending_signal(struct pds_ending *e, int sig, int known)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = e->group > 0 ? signal_group(e, sig, known) : signal_tree(e, sig, known);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static bool has_ended(const struct pds_victim *victim)
{
    struct process process;
    int r = pds_victim_read(victim, &process);
    return r < 0 && !is_shortage(r);
}

/* False: the time is over, or a signal came. */
static bool is_gone_by(const struct pds_victim *victim, int64_t until)
{
    int pidfd = (int)sys2(SYS_pidfd_open, victim->pid, 0);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    bool gone = pidfd == -ESRCH || (pidfd >= 0 && poll(&end, 1, 0) > 0) || has_ended(victim);
    if (pidfd >= 0) {
        struct timespec time = pds_timespec(until - pds_now());
        gone = gone || ppoll(&end, 1, &time, NULL) > 0;
        close(pidfd);
        return gone;
    }
    while (!gone && pds_now() < until && pds_pause(LOOK_AGAIN) == 0)
        gone = has_ended(victim);
    return gone;
}

int pds_ending_wait(struct pds_ending *e, int64_t ns, int trackers)
{
    int64_t until = pds_now() + ns;
    int more;
    do {
        for (uint32_t i = 0; i < e->count; i++) {
            struct pds_victim *victim = &e->list[i];
            if (victim->known & (PDS_GONE | PDS_REFUSED) || (victim->known & PDS_TRACKER && !trackers))
                continue;
            if (!is_gone_by(victim, until))
                return 0;
            victim->known |= PDS_GONE;
        }
        more = e->group > 0 ? find_members(e) : 0; /* forked meanwhile */
    } while (more > 0);
    return more < 0 ? more : 1;
}

void pds_ending_kill_trackers(struct pds_ending *e)
{
    for (uint32_t i = 0; i < e->count; i++) {
        struct pds_victim *victim = &e->list[i];
        if (victim->known & PDS_TRACKER && pds_victim_send(victim, SIGKILL) == 0)
            victim->known |= PDS_KILLED;
    }
}
