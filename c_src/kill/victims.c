/* The processes to end: a list, and an index by PID. */
#include "kill.h"

#include <stdlib.h>
#include <time.h>

enum { FIRST_VICTIMS = 512 };

int64_t pds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 * MILLISECOND + time.tv_nsec;
}

struct timespec pds_timespec(int64_t ns)
{
    ns = ns > 0 ? ns : 0;
    return (struct timespec){.tv_sec = ns / (1000 * MILLISECOND), .tv_nsec = ns % (1000 * MILLISECOND)};
}

int pds_pause(int64_t ns)
{
    struct timespec time = pds_timespec(ns);
    return nanosleep(&time, NULL);
}

struct pds_victim *pds_victim_find(const struct pds_ending *e, pid_t pid)
{
    return pid > 0 && pid < PID_LIMIT && e->index != NULL && e->index[pid] > 0 ? &e->list[e->index[pid] - 1] : NULL;
}

static int grow(struct pds_ending *e)
{
    uint32_t capacity = e->capacity > 0 ? 2 * e->capacity : FIRST_VICTIMS;
    struct pds_victim *list = realloc(e->list, capacity * sizeof *list);
    if (list == NULL)
        return pds_fail(ENOMEM, "malloc");
    e->list = list;
    if (e->index == NULL)
        e->index = calloc(PID_LIMIT, sizeof *e->index); /* takes memory where it is written only */
    if (e->index == NULL)
        return pds_fail(ENOMEM, "malloc");
    e->capacity = capacity;
    return 0;
}

int pds_ending_add(struct pds_ending *e, int pid, uint64_t start)
{
    if (pid <= 1 || pid >= PID_LIMIT || pid == getpid())
        return pds_fail(EINVAL, "kill");
    if (e->count == e->capacity) {
        int r = grow(e);
        if (r < 0)
            return r;
    }
    struct pds_victim *before = pds_victim_find(e, pid);
    if (before != NULL)
        before->known |= PDS_GONE;
    e->list[e->count++] = (struct pds_victim){.pid = pid, .start = start};
    e->index[pid] = e->count;
    return 0;
}

void pds_ending_free(struct pds_ending *e)
{
    free(e->list);
    free(e->index);
    *e = (struct pds_ending){0};
}

int pds_victim_read(const struct pds_victim *victim, struct process *process)
{
    int r = process_read(victim->pid, process);
    return r < 0 ? r : process->start == victim->start && process_alive(process) ? 0 : -ESRCH;
}

int pds_victim_send(struct pds_victim *victim, int sig)
{
    struct process process;
    if (victim->known & PDS_GONE)
        return -ESRCH;
    int pidfd = (int)sys2(SYS_pidfd_open, victim->pid, 0);
    int r = pidfd == -ESRCH || is_shortage(pidfd) ? pidfd : pds_victim_read(victim, &process);
    if (r == 0)
        r = process_signal(&process, pidfd, sig);
    if (pidfd >= 0)
        close(pidfd);
    if (is_shortage(r) && sig == SIGCONT)
        return (int)sys2(SYS_kill, victim->pid, sig); /* it was stopped by us: it still has its PID */
    if (r == -EPERM)
        victim->known |= PDS_REFUSED;
    else if (r < 0 && !is_shortage(r))
        victim->known |= PDS_GONE;
    return is_shortage(r) ? pds_fail(-r, "pidfd_open") : r;
}
