/* The child, from the clone to the exec: the pieces of fork_exec.c's and posix_spawn.c's child.
 *
 * THE RULES OF THE CHILD. It shares our memory until it execs, as after vfork(2): nothing of a
 * large parent is copied. While it does:
 *
 *   - only system calls, made directly: no malloc, no lock, no Python, nothing that is a
 *     cancellation point or keeps books in libc (its setuid() would signal every thread of ours);
 *   - every signal is blocked, and every handler dropped before signals are let in again: none of
 *     the parent's handlers ever runs in the child;
 *   - it writes to nothing but its own stack, and to the last fields of struct spawning;
 *   - every function that it calls is marked IN_CHILD.
 *
 * Order matters. The kernel forgets the parent-death signal when credentials change, so those
 * change first. The parent's death before prctl sends nothing, so it is looked for after. */
#include "../proc/proc.h"
#include "spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#ifdef __mips__ /* the kernel's struct sigaction begins with the handler everywhere else */
enum { HANDLER = 1 };
#else
enum { HANDLER = 0 };
#endif

IN_CHILD static bool make_inheritable(int fd)
{
    long flags = syscall(FCNTL, fd, F_GETFD, 0);
    return flags >= 0 && syscall(FCNTL, fd, F_SETFD, flags & ~FD_CLOEXEC) == 0;
}

IN_CHILD bool pds_child_duplicate(int fd, int to)
{
    return fd == to ? make_inheritable(fd) : syscall(SYS_dup3, fd, to, 0) == to;
}

IN_CHILD bool pds_child_keep(const struct pds_spawn *s)
{
    for (int i = 0; i < s->keep_count; i++) {
        if (s->keep[i] != s->errpipe_write && !make_inheritable(s->keep[i]))
            return false;
    }
    return true;
}

IN_CHILD static bool is_kept(const struct pds_spawn *s, int fd)
{
    for (int i = 0; i < s->keep_count; i++) {
        if (s->keep[i] == fd)
            return true;
    }
    return false;
}

/* Before Linux 5.9, or where close_range(2) is denied. */
IN_CHILD static void close_from_slowly(const struct spawning *spawning, unsigned int first)
{
    int directory = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) {
        for (long fd = first; fd < spawning->descriptors_max; fd++) {
            if (!is_kept(spawning->s, (int)fd))
                syscall(SYS_close, fd);
        }
        return;
    }
    _Alignas(uint64_t) char entries[1024];
    long length;
    while ((length = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0) {
        for (long at = 0; at < length;) { /* getdents64(2): u64, s64, u16 length, u8, name */
            const char *name = entries + at + 19;
            unsigned short entry_length;
            memcpy(&entry_length, entries + at + 16, sizeof entry_length);
            at += entry_length;
            int fd = 0;
            while (*name >= '0' && *name <= '9')
                fd = 10 * fd + (*name++ - '0');
            if (*name == '\0' && fd >= (int)first && fd != directory && !is_kept(spawning->s, fd))
                syscall(SYS_close, fd);
        }
    }
    syscall(SYS_close, directory);
}

IN_CHILD void pds_child_close_from(const struct spawning *spawning, unsigned int first)
{
    for (int i = 0; i < spawning->s->keep_count; i++) {
        unsigned int fd = (unsigned int)spawning->s->keep[i];
        if (fd > first && syscall(SYS_close_range, first, fd - 1, 0) != 0) {
            close_from_slowly(spawning, first);
            return;
        }
        if (fd >= first)
            first = fd + 1;
    }
    if (syscall(SYS_close_range, first, UINT_MAX, 0) != 0)
        close_from_slowly(spawning, first);
}

/* Ignored signals stay ignored across an exec, but for those that must not. */
IN_CHILD static void drop_handlers(const struct spawning *spawning)
{
    unsigned long now[32], nothing[32] = {0};
    for (int sig = 1; sig < _NSIG; sig++) {
        bool drop = sig == spawning->s->sig || (sig <= 64 && spawning->defaults >> (sig - 1) & 1);
        if (!drop && !spawning->handlers_dropped && syscall(SYS_rt_sigaction, sig, NULL, now, _NSIG / 8) == 0)
            drop = now[HANDLER] != (unsigned long)SIG_DFL && now[HANDLER] != (unsigned long)SIG_IGN;
        if (drop)
            syscall(SYS_rt_sigaction, sig, nothing, NULL, _NSIG / 8);
    }
}

/* What a spawner thread's child has from the thread that asked for it. That the affinity has left
 * the cpuset meanwhile is no reason not to start. */
IN_CHILD void pds_child_begin(const struct spawning *spawning)
{
    if (spawning->affinity_size > 0)
        syscall(SYS_sched_setaffinity, 0, spawning->affinity_size, spawning->affinity);
    if (spawning->renice)
        syscall(SYS_setpriority, 0 /* PRIO_PROCESS */, 0, spawning->nice);
    drop_handlers(spawning);
}

IN_CHILD bool pds_child_take_group(const struct pds_spawn *s)
{
    return (!s->new_session || syscall(SYS_setsid) >= 0) &&
           (s->process_group < 0 || syscall(SYS_setpgid, 0, s->process_group) == 0);
}

IN_CHILD bool pds_child_fail(struct spawning *spawning, int error, const char *call)
{
    spawning->failed = call;
    spawning->error = errno = error;
    return false;
}

/* Whether the parent has died, asked after arming. In a new PID namespace it has no PID. There, our
 * error reports have no reader any more if it is gone; posix_spawn has no such reports. */
IN_CHILD static bool is_orphaned(const struct spawning *spawning)
{
    long parent = syscall(SYS_getppid);
    if (parent != 0 || spawning->posix != NULL)
        return parent != 0 && parent != spawning->parent;
    struct pollfd reader = {.fd = spawning->s->errpipe_write, .events = POLLOUT};
    struct timespec now = {0};
    return syscall(SYS_ppoll, &reader, 1, &now, NULL, 0) > 0 && (reader.revents & POLLERR);
}

IN_CHILD bool pds_child_bind(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, s->sig, 0, 0, 0) != 0)
        return pds_child_fail(spawning, errno, "prctl");
    bool gone = is_orphaned(spawning);
    if (s->lifeline >= 0 && !gone) {
        int r = pds_lifeline_hold(s->lifeline, s->sig, s->group);
        if (r < 0)
            return pds_child_fail(spawning, -r, "fcntl");
        gone = r > 0;
    }
    if (gone)
        syscall(SYS_exit_group, 128 + s->sig);
    return true;
}

IN_CHILD static bool is_absence(int error, bool as_execvp)
{
    return error == ENOENT || error == ENOTDIR ||
           (as_execvp && (error == ESTALE || error == ENODEV || error == ETIMEDOUT));
}

/* With the signals let in. As os.execvpe does: the first error that is not about a candidate's
 * absence counts. execvp(3) goes on from EACCES alone. */
IN_CHILD void pds_child_exec(const struct spawning *spawning)
{
    bool as_execvp = spawning->posix != NULL && spawning->posix->as_execvp;
    int first = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spawning->mask, NULL, _NSIG / 8);
    const struct pds_spawn *s = spawning->s;
    for (char *const *candidate = s->executables; *candidate != NULL; candidate++) {
        syscall(SYS_execve, *candidate, s->argv, s->envp);
        if (is_absence(errno, as_execvp))
            continue;
        if (as_execvp && errno != EACCES)
            return;
        if (first == 0)
            first = errno;
    }
    if (first != 0)
        errno = first;
}
