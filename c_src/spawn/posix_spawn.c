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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

IN_CHILD static bool schedule(const struct pds_posix *posix)
{
    struct sched_param parameters = {.sched_priority = posix->priority};
    if (posix->scheduling == 0)
        return true;
    if (posix->scheduling == 1)
        return syscall(SYS_sched_setparam, 0, &parameters) == 0;
    return syscall(SYS_sched_setscheduler, 0, posix->policy, &parameters) == 0;
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

/* Onto itself: it is to be inherited. */
IN_CHILD static bool duplicate(int fd, int to)
{
    return fd == to ? pds_child_set_close_on_exec(fd, false) : syscall(SYS_dup3, fd, to, 0) == to;
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
        return duplicate(action->fd, action->to);
    default:
        pds_child_close_from(spawning, (unsigned int)action->fd);
        return true;
    }
}

/* Returns when it has not execed, with errno. */
IN_CHILD static void try_to_become(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    const struct pds_posix *posix = spawning->posix;
    pds_child_take_attributes(spawning);
    pds_child_drop_handlers(spawning);
    for (int sig = 1; sig <= 64; sig++) {
        if (posix->defaults >> (sig - 1) & 1)
            pds_child_set_default_action(sig);
    }
    if (!schedule(posix) || (s->new_session && syscall(SYS_setsid) < 0) ||
        (s->process_group >= 0 && syscall(SYS_setpgid, 0, s->process_group) != 0) ||
        (posix->reset_ids && !reset_ids()) || !pds_child_keep(spawning) || !pds_child_bind(spawning))
        return;
    for (int i = 0; i < posix->actions_count; i++) {
        if (!act(spawning, &spawning->actions[i]))
            return;
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spawning->mask, NULL, _NSIG / 8);
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

/* Pointers to n strings that follow each other. */
static char **split(char **into, const char *strings, int n)
{
    for (int i = 0; i < n; i++) {
        *into++ = (char *)strings;
        strings += strlen(strings) + 1;
    }
    *into++ = NULL;
    return into;
}

static char **point_to(struct spawning *spawning, const char *executables, const char *argv, const char *envp)
{
    const struct pds_spawn *s = spawning->s;
    size_t count = (size_t)s->executables_count + (size_t)s->argc + (s->envc > 0 ? (size_t)s->envc : 0);
    char **pointers = malloc((count + 3) * sizeof *pointers);
    if (pointers == NULL)
        return NULL;
    spawning->executables = pointers;
    spawning->argv = split(spawning->executables, executables, s->executables_count);
    char **after = split(spawning->argv, argv, s->argc);
    if (s->envc >= 0) {
        spawning->envp = after;
        split(after, envp, s->envc);
    }
    return pointers;
}

int pds_posix_spawn(struct pds_spawn *s, const struct pds_posix *posix, const struct pds_action *actions,
                    const char *executables, const char *argv, const char *envp)
{
    struct spawning *spawning = mmap(NULL, sizeof *spawning, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (spawning == MAP_FAILED)
        return pds_fail(errno, "mmap");
    bool own_credentials = posix->reset_ids && (geteuid() != getuid() || getegid() != getgid());
    *spawning = (struct spawning){.s = s, .become = become, .posix = posix, .actions = actions, .keep = &s->lifeline};
    s->keep_count = s->lifeline >= 0;
    s->errpipe_write = -1;
    spawning->share_memory = !own_credentials;
    struct signals before;
    pds_hold_signals(&before);
    spawning->mask = before.mask;
    if (posix->set_mask)
        as_sigset(posix->mask, &spawning->mask);
    sigdelset(&spawning->mask, s->sig);
    char **pointers = point_to(spawning, executables, argv, envp);
    int pid = pointers != NULL ? pds_start(spawning) : pds_fail(ENOMEM, "malloc");
    free(pointers);
    pds_restore_signals(&before);
    munmap(spawning, sizeof *spawning);
    return pid;
}
