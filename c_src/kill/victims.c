/* The processes to end: a list, and an index by PID. */
#include "kill.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
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
    if (e->index == NULL) { /* as sparse as the PIDs are */
        void *index = mmap(NULL, PID_LIMIT * sizeof *e->index, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (index == MAP_FAILED)
            return pds_fail(errno, "mmap");
        e->index = index;
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
    if (e->list != NULL)
        munmap(e->list, e->capacity * sizeof *e->list);
    if (e->index != NULL)
        munmap(e->index, PID_LIMIT * sizeof *e->index);
    *e = (struct pds_ending){0};
}

/* Since Linux 6.9 the inode is the process's own until the next boot; to read stat takes longer. */
static uint64_t inode_of(int pidfd)
{
    enum { PID_FS_MAGIC = 0x50494446 };
    struct statfs fs;
    struct stat status;
    bool own = sizeof(status.st_ino) == 8 && fstatfs(pidfd, &fs) == 0 && fs.f_type == PID_FS_MAGIC;
    return own && fstat(pidfd, &status) == 0 ? status.st_ino : 0;
}

void pds_victim_note_inode(struct pds_victim *victim, int pidfd)
{
    victim->inode = inode_of(pidfd);
}

static int verify(const struct pds_victim *victim, int pidfd)
{
    struct process process;
    if (pidfd >= 0 && victim->inode != 0 && inode_of(pidfd) == victim->inode)
        return 0;
    int r = process_read(victim->pid, &process);
    return r < 0 ? r : process.start == victim->start && process_alive(&process) ? 0 : -ESRCH;
}

bool pds_victim_lives(const struct pds_victim *victim, struct process *process)
{
    return process_read(victim->pid, process) == 0 && process->start == victim->start && process_alive(process);
}

int pds_victim_send(struct pds_victim *victim, int sig)
{
    struct process process = {.pid = victim->pid};
    if (victim->known & PDS_GONE)
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
        victim->known |= PDS_REFUSED;
    else if (r < 0 && !is_shortage(r))
        victim->known |= PDS_GONE;
    return is_shortage(r) ? pds_fail(-r, "pidfd_open") : r;
}
