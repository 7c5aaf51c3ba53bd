/* posix_spawn(3), with the child bound: what glibc's child does, in its order. The functions marked
 * IN_CHILD keep the rules of child.c.
 *
 * The one addition, the binding, comes when credentials no longer change, and before the file
 * actions: opening a FIFO may take for ever. There are no reports by pipe: the file actions could
 * hit its descriptors. The child writes what failed into memory that it shares with us, also
 * where it has a copy of all other. */
#include "../proc/proc.h"
#include "spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>

IN_CHILD static bool schedule(const struct pds_posix *posix)
{
    struct sched_param parameters = {.sched_priority = posix->priority};
    return posix->policy < 0 ? syscall(SYS_sched_setparam, 0, &parameters) == 0
                             : syscall(SYS_sched_setscheduler, 0, posix->policy, &parameters) == 0;
}

IN_CHILD static bool reset_ids(void)
{
    return syscall(SETRESUID, -1, getuid(), -1) == 0 && syscall(SETRESGID, -1, getgid(), -1) == 0;
}

/* The descriptor with that number is closed first: with none left there is room then. */
IN_CHILD static bool open_as(const struct pds_action *action)
{
    syscall(SYS_close, action->fd);
    long fd = syscall(SYS_openat, AT_FDCWD, action->path, action->flags | O_LARGEFILE, action->mode);
    if (fd < 0 || fd == action->fd)
        return fd >= 0;
    return syscall(SYS_dup3, fd, action->fd, 0) == action->fd && syscall(SYS_close, fd) == 0;
}

IN_CHILD static bool act(const struct spawning *spawning, const struct pds_action *action)
{
    switch (action->what) {
    case PDS_OPEN:
        return open_as(action);
    case PDS_CLOSE:
        syscall(SYS_close, action->fd); /* that it was not open is no error */
        return true;
    case PDS_DUP2:
        return pds_child_duplicate(action->fd, action->to);
    default:
        pds_child_close_from(spawning, (unsigned int)action->fd);
        return true;
    }
}

/* Returns when it has not execed, with errno. */
IN_CHILD static void try_to_become(struct spawning *spawning)
{
    const struct pds_posix *posix = spawning->posix;
    pds_child_begin(spawning);
    if ((posix->scheduling && !schedule(posix)) || !pds_child_take_group(spawning->s) ||
        (posix->reset_ids && !reset_ids()) || !pds_child_keep(spawning->s) || !pds_child_bind(spawning))
        return;
    for (int i = 0; i < posix->actions_count; i++) {
        if (!act(spawning, &posix->actions[i]))
            return;
    }
    pds_child_exec(spawning);
}

IN_CHILD static void become(struct spawning *spawning)
{
    try_to_become(spawning);
    if (spawning->failed == NULL && !spawning->posix->exits)
        pds_child_fail(spawning, errno, "posix_spawn");
}

static void as_sigset(uint64_t signals, sigset_t *set)
{
    sigemptyset(set);
    for (int sig = 1; sig <= 64; sig++) {
        if (signals >> (sig - 1) & 1)
            sigaddset(set, sig);
    }
}

int pds_posix_spawn(struct pds_spawn *s, const struct pds_posix *posix)
{
    struct spawning *spawning = mmap(NULL, sizeof *spawning, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (spawning == MAP_FAILED)
        return pds_fail(errno, "mmap");
    bool own_credentials = posix->reset_ids && (geteuid() != getuid() || getegid() != getgid());
    s->keep = &s->lifeline;
    s->keep_count = s->lifeline >= 0;
    s->errpipe_write = -1;
    *spawning = (struct spawning){.s = s, .become = become, .posix = posix, .defaults = posix->defaults};
    spawning->share_memory = !own_credentials;
    spawning->mask_given = posix->set_mask;
    as_sigset(posix->mask, &spawning->mask);
    int pid = pds_start(spawning);
    munmap(spawning, sizeof *spawning);
    return pid;
}
