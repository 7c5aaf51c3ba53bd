/* Ending a tree of processes, or a process group, now.
 *
 * Who forks faster than one walks escapes. So all are stopped first, from the top down, until a walk finds nobody new,
 * nobody who still runs, and nobody in the middle of a fork with the signal blocked. Then each gets the signal, and
 * only then they go on, from the bottom up: a child whose parent dies before it could be hung up on (setpgid(2),
 * orphaned process groups) or be seen as dead too early.
 *
 * We are in somebody's program. Other threads may reap our children and other tools signal them, at any moment: so
 * every signal goes by a pidfd, after a look at whether that is still the process that was found. One descriptor at a
 * time, as there may be thousands of them. Nobody may stay frozen: so this is one call, which no exception interrupts.
 *
 * Kernels before 5.3 have no pidfds: then by PID, just looked at. */
#include "internal.h"
#include "pdeathsig.h"
#include "sys.h"
#include "tree.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

enum { PIDS = 1 << 22, FIRST_VICTIMS = 512 }; /* PID_MAX_LIMIT */

static const int64_t MILLISECOND = 1000000;
#define FREEZE_AT_MOST (3000 * MILLISECOND)
#define FREEZE_PATIENCE (20 * MILLISECOND)  /* with those who wait in the kernel */
#define BLOCK_PATIENCE (50 * MILLISECOND)   /* with one who blocks the signal */
#define BLOCKS_PATIENCE (200 * MILLISECOND) /* ... with all of them */
#define LOOK_AGAIN (2 * MILLISECOND)        /* where no event tells */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 * MILLISECOND + time.tv_nsec;
}

static struct timespec timespec(int64_t ns)
{
    ns = ns > 0 ? ns : 0;
    return (struct timespec){.tv_sec = ns / (1000 * MILLISECOND), .tv_nsec = ns % (1000 * MILLISECOND)};
}

static int pause_for(int64_t ns)
{
    struct timespec time = timespec(ns);
    return nanosleep(&time, NULL);
}

static struct pds_victim *find(const struct pds_ending *e, pid_t pid)
{
    return pid > 0 && pid < PIDS && e->place != NULL && e->place[pid] > 0 ? &e->list[e->place[pid] - 1] : NULL;
}

static int grow(struct pds_ending *e)
{
    if (e->place == NULL) { /* as sparse as the PIDs are */
        void *place = mmap(NULL, PIDS * sizeof *e->place, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED)
            return pds_fail(errno, "mmap");
        e->place = place;
    }
    size_t size = e->capacity * sizeof *e->list;
    size_t wanted = size > 0 ? 2 * size : FIRST_VICTIMS * sizeof *e->list;
    void *list = size > 0 ? mremap(e->list, size, wanted, MREMAP_MAYMOVE)
                          : mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED)
        return pds_fail(errno, "mmap");
    e->list = list;
    e->capacity = (uint32_t)(wanted / sizeof *e->list);
    return 0;
}

int pds_ending_add(struct pds_ending *e, int pid, uint64_t start)
{
    if (pid <= 1 || pid >= PIDS || pid == getpid())
        return pds_fail(EINVAL, "kill");
    if (e->count == e->capacity) {
        int r = grow(e);
        if (r < 0)
            return r;
    }
    struct pds_victim *before = find(e, pid);
    if (before != NULL)
        before->is |= PDS_GONE;
    e->list[e->count++] = (struct pds_victim){.pid = pid, .start = start};
    e->place[pid] = e->count;
    return 0;
}

void pds_ending_free(struct pds_ending *e)
{
    if (e->list != NULL)
        munmap(e->list, e->capacity * sizeof *e->list);
    if (e->place != NULL)
        munmap(e->place, PIDS * sizeof *e->place);
    *e = (struct pds_ending){0};
}

/* Since Linux 6.9 the inode is the process's own, for as long as the machine runs: 12 us less than to read its stat. */
static uint64_t inode_of(int pidfd)
{
    enum { PID_FS_MAGIC = 0x50494446 };
    struct statfs fs;
    struct stat status;
    bool own = sizeof(status.st_ino) == 8 && fstatfs(pidfd, &fs) == 0 && fs.f_type == PID_FS_MAGIC;
    return own && fstat(pidfd, &status) == 0 ? status.st_ino : 0;
}

static int verify(const struct pds_victim *victim, int pidfd)
{
    struct process process;
    if (pidfd >= 0 && victim->inode != 0 && inode_of(pidfd) == victim->inode)
        return 0;
    int r = process_read(victim->pid, &process);
    return r < 0 ? r : process.start == victim->start && process_alive(&process) ? 0 : -ESRCH;
}

/* -ESRCH when it has ended, whoever has its PID now. */
static int send(struct pds_victim *victim, int sig)
{
    struct process process = {.pid = victim->pid};
    if (victim->is & PDS_GONE)
        return -ESRCH;
    int pidfd = (int)sys2(SYS_pidfd_open, victim->pid, 0);
    int r = pidfd == -ESRCH || is_shortage(pidfd) ? pidfd : verify(victim, pidfd);
    if (r == 0)
        r = process_signal(&process, pidfd, sig);
    if (pidfd >= 0)
        close(pidfd);
    if (is_shortage(r) && sig == SIGCONT)
        return (int)sys2(SYS_kill, victim->pid, sig); /* it was stopped by us: it still has its PID */
    if (r == -EPERM)
        victim->is |= PDS_REFUSED;
    else if (r < 0 && !is_shortage(r))
        victim->is |= PDS_GONE;
    return is_shortage(r) ? pds_fail(-r, "pidfd_open") : r;
}

/* From the bottom up. Who was stopped before stays so if we give up. */
static void let_go_on(struct pds_ending *e, bool all)
{
    for (uint32_t i = e->count; i-- > 0;) {
        struct pds_victim *victim = &e->list[i];
        if (victim->is & PDS_FROZEN && (all || !(victim->is & PDS_WAS_STOPPED)))
            send(victim, SIGCONT);
        victim->is &= ~PDS_FROZEN;
    }
}

struct freezing {
    struct pds_ending *e;
    int sig;
    int64_t since, waited; /* for those who block it */
    int error;
    bool restless; /* somebody is new, or may still run */
};

/* It was stopped where it blocks the signal, as bash and posix_spawn(3) do around a fork. With the signal pending it
 * would fork, and die: who would find the child? So it first goes on, until it blocks the signal no more. Who sleeps
 * blocks it always, to wait for it by sigwait(3); so, it seems, does who blocks it for long. */
static void let_it_unblock(struct freezing *freezing, struct pds_victim *victim)
{
    const int64_t since = now();
    struct process process;
    if (send(victim, SIGCONT) < 0)
        return;
    do {
        pause_for(MILLISECOND / 50);
        if (process_read(victim->pid, &process) < 0 || process.start != victim->start)
            break;
        if (!process_blocks(&process, freezing->sig))
            break;
        if ((process.state == 'S' && process.threads == 1) || now() - since > BLOCK_PATIENCE)
            victim->is |= PDS_BLOCKS;
    } while (!(victim->is & PDS_BLOCKS));
    freezing->waited += now() - since;
    if (send(victim, SIGSTOP) < 0)
        victim->is &= ~PDS_FROZEN;
}

static void freeze_one(struct walk *walk, const struct process *process, int pidfd)
{
    struct freezing *freezing = walk->with;
    struct pds_ending *e = freezing->e;
    struct pds_victim *victim = find(e, process->pid);
    if (victim == NULL || victim->start != process->start) {
        struct pds_victim *parent = find(e, process->parent);
        if (parent == NULL || parent->pass != e->pass || process->pid <= 1 || process->pid == getpid())
            return; /* some other process has the PID of one of them */
        int r = pds_ending_add(e, process->pid, process->start);
        if (r < 0) {
            freezing->error = r;
            return;
        }
        victim = find(e, process->pid);
    }
    victim->pass = e->pass;
    if (victim->is & PDS_REFUSED)
        return;
    if (process_tracker(process) == TRACKER) /* asked again once it is stopped, and so in no exec */
        victim->is |= PDS_TRACKER;
    char activity = process_activity(process);
    if (!(victim->is & PDS_FROZEN)) {
        victim->is |= process->state == 'T' ? PDS_WAS_STOPPED : 0;
        if (pidfd >= 0)
            victim->inode = inode_of(pidfd);
        int r = pidfd >= 0 ? process_signal(process, pidfd, SIGSTOP) : send(victim, SIGSTOP);
        if (r == 0)
            victim->is |= PDS_FROZEN;
        else if (r == -EPERM)
            victim->is |= PDS_REFUSED;
        else if (is_shortage(r))
            freezing->error = r;
        freezing->restless = true;
    } else if (activity == 'T' && !(victim->is & PDS_BLOCKS) && freezing->waited < BLOCKS_PATIENCE &&
               process_blocks(process, freezing->sig)) {
        let_it_unblock(freezing, victim);
        freezing->restless = true;
    } else if (activity == 'R' || (activity == 'D' && now() - freezing->since < FREEZE_PATIENCE)) {
        freezing->restless = true;
    }
}

static bool add_top(const struct pds_ending *e, const struct pds_victim *victim, struct links *tops, bool orphan)
{
    struct process process;
    if (victim->is & PDS_GONE || process_read(victim->pid, &process) < 0 || process.start != victim->start ||
        !process_alive(&process))
        return false;
    const struct pds_victim *parent = find(e, process.parent);
    bool top = orphan || parent == NULL || parent->is & PDS_GONE;
    if (top)
        links_add(tops, process.pid, process.parent);
    return top;
}

/* Where to walk from: who has no parent among them; and later also whom the last walk did not reach. Returns whether
 * there are new ones. */
static bool find_tops(const struct pds_ending *e, struct links *tops, bool first)
{
    bool added = false;
    for (uint32_t i = 0; i < e->count; i++) {
        if (first || e->list[i].pass != e->pass)
            added |= add_top(e, &e->list[i], tops, !first);
    }
    return added;
}

static int walk_from(struct walk *walk, const struct links *tops)
{
    walk->found.count = 0;
    walk->found.error = tops->error;
    for (size_t i = 0; i < tops->count; i++)
        links_add(&walk->found, tops->list[i].pid, tops->list[i].parent);
    return walk->found.error < 0 ? walk->found.error : tree_walk_found(walk);
}

static int freeze(struct pds_ending *e, int sig)
{
    struct freezing freezing = {.e = e, .sig = sig, .since = now()};
    struct walk walk = {.signals = true, .stops = true, .visit = freeze_one, .with = &freezing};
    struct links tops = {0};
    int r = 0;
    find_tops(e, &tops, true);
    do {
        if (!walk.signals)
            pause_for(MILLISECOND / 10);
        e->pass++;
        freezing.restless = false;
        r = walk_from(&walk, &tops);
        if (find_tops(e, &tops, false))
            freezing.restless = true;
        walk.signals = false;
    } while (r >= 0 && freezing.error == 0 && freezing.restless && now() - freezing.since < FREEZE_AT_MOST);
    links_free(&walk.found);
    links_free(&tops);
    if (freezing.error < 0)
        return freezing.error;
    return r < 0 ? pds_fail(-r, "open") : 0;
}

/* From the bottom up, so that SIGKILL wakes nobody by the end of his parent. */
static int send_to_all(struct pds_ending *e, int sig, int is)
{
    for (uint32_t i = e->count; i-- > 0;) {
        struct pds_victim *victim = &e->list[i];
        if (victim->is & (PDS_TRACKER | PDS_GONE | PDS_REFUSED) || victim->pass != e->pass) /* not found any more */
            continue;
        int r = send(victim, sig);
        if (r == 0)
            victim->is |= is;
        else if (is_shortage(r))
            return r;
    }
    return 0;
}

static int signal_tree(struct pds_ending *e, int sig, int is)
{
    int r = freeze(e, sig);
    if (r == 0)
        r = send_to_all(e, sig, is);
    let_go_on(e, r == 0);
    return r;
}

/* Who stays in an exec for long is taken for one. */
static bool turns_out_to_be_tracker(const struct process *process)
{
    const int64_t until = now() + FREEZE_PATIENCE;
    enum tracker is;
    while ((is = process_tracker(process)) == UNKNOWN_YET && now() < until)
        pause_for(MILLISECOND / 10);
    return is != NO_TRACKER;
}

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
        struct pds_victim *victim = find(e, process.pid);
        if (victim == NULL || victim->start != process.start) {
            r = pds_ending_add(e, process.pid, process.start);
            victim = find(e, process.pid);
            if (r == 0)
                send(victim, 0); /* may we? */
        }
        if (r == 0 && turns_out_to_be_tracker(&process))
            victim->is |= PDS_TRACKER;
        if (r == 0)
            living += !(victim->is & (PDS_REFUSED | PDS_TRACKER));
    }
    links_free(&all);
    return r < 0 ? r : living;
}

static bool has_tracker(const struct pds_ending *e)
{
    for (uint32_t i = 0; i < e->count; i++) {
        if ((e->list[i].is & (PDS_TRACKER | PDS_GONE)) == PDS_TRACKER)
            return true;
    }
    return false;
}

/* kill(2) reaches all members at once, those being forked too. */
static int signal_group(struct pds_ending *e, int sig, int is)
{
    bool one_by_one = sig == SIGKILL;
    int r = find_members(e);
    if (r <= 0)
        return r;
    if (e->group <= 1 || e->group == getpgrp())
        return pds_fail(EINVAL, "kill");
    one_by_one = one_by_one && has_tracker(e);
    if (kill(-e->group, one_by_one ? SIGSTOP : sig) < 0)
        return errno == ESRCH || errno == EPERM ? 0 : pds_fail(errno, "kill");
    for (uint32_t i = 0; i < e->count && !one_by_one; i++)
        e->list[i].is |= e->list[i].is & (PDS_REFUSED | PDS_GONE | PDS_TRACKER) ? 0 : is;
    r = find_members(e);
    if (one_by_one && r >= 0)
        r = send_to_all(e, SIGKILL, is);
    if (sig != SIGKILL || one_by_one)
        kill(-e->group, SIGCONT);
    return r < 0 ? r : 0;
}

/* No signal may end this thread half-way. */
int pds_ending_signal(struct pds_ending *e, int sig, int is)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = e->group > 0 ? signal_group(e, sig, is) : signal_tree(e, sig, is);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

/* 1: gone. 0: the time is over, or a signal came. */
static int gone_by(const struct pds_victim *victim, int64_t until)
{
    struct process process;
    int pidfd = (int)sys2(SYS_pidfd_open, victim->pid, 0);
    if (pidfd == -ESRCH)
        return 1;
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    int gone = pidfd >= 0 && poll(&end, 1, 0) > 0;
    while (!gone) {
        int r = process_read(victim->pid, &process);
        gone = r == 0 ? process.start != victim->start || !process_alive(&process) : !is_shortage(r);
        struct timespec time = timespec(until - now());
        if (gone || until <= now())
            break;
        r = pidfd >= 0 ? ppoll(&end, 1, &time, NULL) : pause_for(LOOK_AGAIN);
        if (pidfd >= 0) {
            gone = r > 0;
            break;
        }
        if (r < 0)
            break;
    }
    if (pidfd >= 0)
        close(pidfd);
    return gone;
}

int pds_ending_wait(struct pds_ending *e, int64_t ns, int trackers)
{
    int64_t until = now() + ns;
    int more;
    do {
        for (uint32_t i = 0; i < e->count; i++) {
            struct pds_victim *victim = &e->list[i];
            if (victim->is & (PDS_GONE | PDS_REFUSED) || (victim->is & PDS_TRACKER && !trackers))
                continue;
            if (!gone_by(victim, until))
                return 0;
            victim->is |= PDS_GONE;
        }
        more = e->group > 0 ? find_members(e) : 0; /* forked meanwhile */
    } while (more > 0);
    return more < 0 ? more : 1;
}

int pds_ending_kill_trackers(struct pds_ending *e)
{
    int killed = 0;
    for (uint32_t i = 0; i < e->count; i++) {
        struct pds_victim *victim = &e->list[i];
        if (victim->is & PDS_TRACKER && send(victim, SIGKILL) == 0) {
            victim->is |= PDS_KILLED;
            killed++;
        }
    }
    return killed;
}
