/* Start a program that dies with this process: what CPython's _posixsubprocess.fork_exec does, and the binding.
 *
 * The child shares our memory until it execs, as after vfork(2): nothing of a large parent is copied. While it does:
 *
 *   - only system calls, made directly: no malloc, no lock, no Python, nothing that is a cancellation point or keeps
 *     books in libc (its setuid() would signal every thread of ours);
 *   - every signal is blocked, and every handler dropped before they are let in again: none of the parent's handlers
 *     ever runs in the child;
 *   - it writes to nothing but its own stack, and to tell what failed.
 *
 * Memory is not shared when the child changes user or groups: the kernel would take our own right to be traced and to
 * dump core for good (PR_SET_DUMPABLE belongs to the memory), and two identities in one memory are a risk (bpo-35823).
 *
 * Order matters: the kernel forgets the parent-death signal when credentials change, so that comes first; the
 * parent's death between clone and prctl sends nothing, so the parent is looked at after arming. */
#include "internal.h"
#include "pdeathsig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifdef SYS_fcntl64 /* 32-bit architectures */
#define FCNTL SYS_fcntl64
#else
#define FCNTL SYS_fcntl
#endif
#ifdef SYS_setgroups32
#define SETGROUPS SYS_setgroups32
#define SETREGID SYS_setregid32
#define SETREUID SYS_setreuid32
#else
#define SETGROUPS SYS_setgroups
#define SETREGID SYS_setregid
#define SETREUID SYS_setreuid
#endif
#ifdef __mips__ /* the kernel's struct sigaction begins with the handler everywhere else */
enum { HANDLER = 1 };
#else
enum { HANDLER = 0 };
#endif

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#define CLEAR_SIGHAND 0x100000000U /* CLONE_CLEAR_SIGHAND, Linux 5.5 */

extern char **environ;

static const char NOEXEC[] = "noexec", NOEXEC_CHDIR[] = "noexec:chdir";

IN_CHILD static bool say(int fd, const char *text, size_t length)
{
    while (length > 0) {
        long n = syscall(SYS_write, fd, text, length);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            length -= (size_t)n;
        }
    }
    return true;
}

/* In the words that subprocess.Popen reads. */
IN_CHILD static void report(int fd, int error, const char *what)
{
    char hex[2 * sizeof error];
    size_t start = sizeof hex;
    for (unsigned int rest = (unsigned int)error; rest != 0; rest /= 16)
        hex[--start] = "0123456789ABCDEF"[rest % 16];
    size_t length = 0;
    while (what[length] != '\0')
        length++;
    if (say(fd, "OSError:", 8) && say(fd, hex + start, sizeof hex - start) && say(fd, ":", 1))
        say(fd, what, length);
}

IN_CHILD static bool set_close_on_exec(int fd, bool on)
{
    long flags = syscall(FCNTL, fd, F_GETFD, 0);
    return flags >= 0 && syscall(FCNTL, fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) == 0;
}

IN_CHILD static bool close_one(int fd)
{
    return fd == -1 || syscall(SYS_close, fd) == 0;
}

/* A copy of fd, above those that are about to become standard input, output and error. */
IN_CHILD static int copied(int fd)
{
    return (int)syscall(FCNTL, fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

IN_CHILD static bool become(int fd, int standard)
{
    if (fd == -1)
        return true;
    return fd == standard ? set_close_on_exec(fd, false) : syscall(SYS_dup3, fd, standard, 0) == standard;
}

IN_CHILD static bool take_standard_descriptors(const struct pds_spawn *s)
{
    int out = s->c2pwrite, err = s->errwrite;
    if (!close_one(s->p2cwrite) || !close_one(s->c2pread) || !close_one(s->errread) || !close_one(s->errpipe_read))
        return false;
    if (out == STDIN_FILENO && (out = copied(out)) < 0)
        return false;
    if ((err == STDIN_FILENO || err == STDOUT_FILENO) && (err = copied(err)) < 0)
        return false;
    return become(s->p2cread, STDIN_FILENO) && become(out, STDOUT_FILENO) && become(err, STDERR_FILENO);
}

IN_CHILD bool pds_child_keep(const struct spawning *spawning)
{
    for (int i = 0; i < spawning->s->keep_count; i++) {
        int fd = spawning->keep[i];
        if (fd != spawning->s->errpipe_write && !set_close_on_exec(fd, false))
            return false;
    }
    return true;
}

IN_CHILD static bool kept(const struct spawning *spawning, int fd)
{
    for (int i = 0; i < spawning->s->keep_count; i++) {
        if (spawning->keep[i] == fd)
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
            if (!kept(spawning, (int)fd))
                close_one((int)fd);
        }
        return;
    }
    _Alignas(uint64_t) char entries[1024];
    long length;
    while ((length = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0) {
        for (long at = 0; at < length;) { /* struct linux_dirent64, getdents(2): u64, s64, u16 length, u8, name */
            const char *name = entries + at + 19;
            unsigned short entry_length;
            memcpy(&entry_length, entries + at + 16, sizeof entry_length);
            at += entry_length;
            int fd = 0;
            while (*name >= '0' && *name <= '9')
                fd = 10 * fd + (*name++ - '0');
            if (*name == '\0' && fd >= (int)first && fd != directory && !kept(spawning, fd))
                close_one(fd);
        }
    }
    close_one(directory);
}

IN_CHILD void pds_child_close_from(const struct spawning *spawning, unsigned int first)
{
    for (int i = 0; i < spawning->s->keep_count; i++) {
        unsigned int fd = (unsigned int)spawning->keep[i];
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

IN_CHILD void pds_child_let_die_of(int sig)
{
    unsigned long nothing[32] = {0};
    syscall(SYS_rt_sigaction, sig, nothing, NULL, _NSIG / 8);
}

/* Of the ignored ones, those that exec is not to leave so. */
IN_CHILD void pds_child_drop_handlers(const struct spawning *spawning)
{
    pds_child_let_die_of(spawning->s->sig);
    if (spawning->s->restore_signals) {
        pds_child_let_die_of(SIGPIPE);
        pds_child_let_die_of(SIGXFSZ);
    }
    unsigned long now[32];
    for (int i = 1; i < _NSIG && !spawning->handlers_dropped; i++) {
        bool known = syscall(SYS_rt_sigaction, i, NULL, now, _NSIG / 8) == 0;
        if (known && now[HANDLER] != (unsigned long)SIG_DFL && now[HANDLER] != (unsigned long)SIG_IGN)
            pds_child_let_die_of(i);
    }
}

IN_CHILD static bool take_credentials(const struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    return (s->groups_count < 0 || syscall(SETGROUPS, s->groups_count, spawning->groups) == 0) &&
           (s->gid < 0 || syscall(SETREGID, (gid_t)s->gid, (gid_t)s->gid) == 0) &&
           (s->uid < 0 || syscall(SETREUID, (uid_t)s->uid, (uid_t)s->uid) == 0);
}

/* What a permanent thread's child has from the thread that asked for it. That the affinity has left the cpuset
 * meanwhile is no reason not to start. */
IN_CHILD void pds_child_take_place(const struct spawning *spawning)
{
    if (spawning->affinity_size > 0)
        syscall(SYS_sched_setaffinity, 0, spawning->affinity_size, spawning->affinity);
    if (spawning->renice)
        syscall(SYS_setpriority, 0 /* PRIO_PROCESS */, 0, spawning->nice);
}

/* Whether the parent still lives, asked after arming. In a new PID namespace it has no PID: there, that nobody reads
 * our error reports any more tells that it is gone (posix_spawn has no such reports). */
IN_CHILD static bool orphaned(const struct spawning *spawning)
{
    long parent = syscall(SYS_getppid);
    if (parent != 0 || spawning->posix != NULL)
        return parent != 0 && parent != spawning->parent;
    struct pollfd reader = {.fd = spawning->s->errpipe_write, .events = POLLOUT};
    struct timespec now = {0};
    return syscall(SYS_ppoll, &reader, 1, &now, NULL, 0) > 0 && (reader.revents & POLLERR);
}

IN_CHILD bool pds_child_refused(struct spawning *spawning, int error, const char *call)
{
    spawning->failed = call;
    spawning->error = errno = error;
    return false;
}

IN_CHILD bool pds_child_bind(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, s->sig, 0, 0, 0) != 0)
        return pds_child_refused(spawning, errno, "prctl");
    bool gone = orphaned(spawning);
    if (s->lifeline >= 0 && !gone) {
        int r = pds_lifeline_hold(s->lifeline, s->sig, s->group);
        if (r < 0)
            return pds_child_refused(spawning, -r, "fcntl");
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

/* As os.execvpe does: the first error that is not about a candidate's absence counts. execvp(3) goes on from EACCES
 * alone. */
IN_CHILD void pds_child_exec(const struct spawning *spawning)
{
    bool as_execvp = spawning->posix != NULL && spawning->posix->as_execvp;
    int first = 0;
    for (char *const *candidate = spawning->executables; *candidate != NULL; candidate++) {
        syscall(SYS_execve, *candidate, spawning->argv, spawning->envp);
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

IN_CHILD static const char *become_the_program(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    if (!pds_child_keep(spawning) || !take_standard_descriptors(s))
        return NOEXEC;
    if (spawning->cwd != NULL && syscall(SYS_chdir, spawning->cwd) != 0)
        return NOEXEC_CHDIR;
    if (s->umask >= 0)
        syscall(SYS_umask, s->umask);
    pds_child_take_place(spawning);
    pds_child_drop_handlers(spawning);
    if (s->new_session && syscall(SYS_setsid) < 0)
        return NOEXEC;
    if (s->process_group >= 0 && syscall(SYS_setpgid, 0, s->process_group) != 0)
        return NOEXEC;
    if (!take_credentials(spawning) || !pds_child_bind(spawning))
        return NOEXEC;
    if (s->close_fds)
        pds_child_close_from(spawning, STDERR_FILENO + 1);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spawning->mask, NULL, _NSIG / 8);
    pds_child_exec(spawning);
    return "";
}

IN_CHILD static int child(void *argument)
{
    struct spawning *spawning = argument;
    spawning->settled = true;
    if (spawning->posix != NULL) {
        pds_become_by_posix_spawn(spawning);
        if (spawning->failed == NULL && !spawning->posix->exits)
            pds_child_refused(spawning, errno, "posix_spawn");
        syscall(SYS_exit_group, 127);
    }
    const char *when = become_the_program(spawning);
    if (when == NOEXEC_CHDIR && !spawning->s->says_chdir)
        when = NOEXEC;
    report(spawning->s->errpipe_write, errno, when);
    spawning->reported = true;
    syscall(SYS_exit_group, 255);
    return 255;
}

/* clone3(2) can have all handlers dropped by the kernel, which spares the child 64 calls of rt_sigaction(2). libc has
 * no function for it, and a child on a stack of its own cannot return from syscall(3): so it is here for the
 * architecture that it was run on. Negative: not to be had here. */
static long clone_without_handlers(struct spawning *spawning, char *stack)
{
    struct { /* clone3(2), the first version */
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {.flags = CLONE_VM | CLONE_VFORK | CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    arguments.stack = (uintptr_t)stack;
    arguments.stack_size = CHILD_STACK;
    spawning->handlers_dropped = true;
    long pid = -ENOSYS;
#if defined __x86_64__ && defined __LP64__
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[argument], %%rdi\n\t"
                     "call *%[function]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(pid)
                     : "a"((long)SYS_clone3), "D"(&arguments),
                       "S"(sizeof arguments), [function] "r"(child), [argument] "r"(spawning)
                     : "rcx", "r11", "cc", "memory");
#endif
    if (pid < 0)
        spawning->handlers_dropped = false;
    return pid;
}

/* The memory of the child's stack is ours, and we are suspended until the child has execed or ended. */
int pds_clone(struct spawning *spawning)
{
    _Alignas(64) char stack[CHILD_STACK];
    pid_t pid = -1;
    sigset_t all, before = {0};
    memset(&all, 0xff, sizeof all); /* sigfillset(3) leaves out those that libc uses itself */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, _NSIG / 8);
    errno = EINVAL;
    if (spawning->share_memory)
        pid = (pid_t)clone_without_handlers(spawning, stack);
    if (pid < 0 && spawning->share_memory)
        pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, spawning);
    if (pid < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM))
        pid = clone(child, stack + sizeof stack, (spawning->posix != NULL ? CLONE_VFORK : 0) | SIGCHLD,
                    spawning); /* as in another time namespace (bpo-47151) */
    int error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, _NSIG / 8);
    return pid < 0 ? pds_fail(error, "clone") : pid;
}

/* The pointers of `environ`: another thread may change that while we exec. */
static char **copy_of_environ(void)
{
    char **ours = environ;
    size_t count = 0;
    while (ours != NULL && ours[count] != NULL)
        count++;
    char **copy = malloc((count + 1) * sizeof *copy);
    if (copy == NULL)
        return NULL;
    if (count > 0)
        memcpy(copy, ours, count * sizeof *copy);
    copy[count] = NULL;
    return copy;
}

/* Its arming failed: it has said so, and ends. */
static int reap(pid_t pid, const struct spawning *spawning)
{
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pds_fail(spawning->error, spawning->failed);
}

/* The caller now reads there until everybody has closed the other end. A process that another thread forked meanwhile
 * may hold it for long; nobody has to wait for that one. */
static void end_of_file(int errpipe_read)
{
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0) {
        dup3(nothing, errpipe_read, O_CLOEXEC);
        close(nothing);
    }
}

/* The same, after what the child has said. No pipe: of that too somebody might fork away the other end. */
static void end_of_report(int errpipe_read)
{
    char report[64];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    ssize_t length = read(errpipe_read, report, sizeof report);
    if (length > 0)
        send(pair[0], report, (size_t)length, MSG_NOSIGNAL);
    shutdown(pair[0], SHUT_WR);
    dup3(pair[1], errpipe_read, O_CLOEXEC);
    close(pair[0]);
    close(pair[1]);
}

int pds_start(struct spawning *spawning)
{
    char **our_environment = NULL;
    spawning->parent = getpid();
    spawning->descriptors_max = sysconf(_SC_OPEN_MAX);
    if (spawning->envp == NULL)
        spawning->envp = our_environment = copy_of_environ();
    if (spawning->envp == NULL)
        return pds_fail(ENOMEM, "malloc");
    int pid = syscall(SYS_gettid) == spawning->parent ? pds_clone(spawning) : pds_owners_clone(spawning);
    if (pid > 0 && spawning->failed != NULL)
        pid = reap(pid, spawning);
    if (pid > 0)
        spawning->s->pid = pid;
    free(our_environment);
    return pid;
}

void pds_quiet(struct quiet *before)
{
    sigset_t all;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancellable);
    /* But for those that libc uses itself: setuid(3) on another thread awaits our answer, and holds a lock that
     * pthread_create(3) needs. */
    sigfillset(&all);
    memset(&before->mask, 0, sizeof before->mask);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before->mask, _NSIG / 8);
}

void pds_loud(const struct quiet *before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before->mask, NULL, _NSIG / 8);
    pthread_setcancelstate(before->cancellable, NULL);
}

int pds_spawn(struct pds_spawn *s, char **executables, char **argv, char **envp, const char *cwd, const int *keep,
              const uint32_t *groups)
{
    struct spawning spawning = {
        .s = s, .executables = executables, .argv = argv, .envp = envp, .cwd = cwd, .keep = keep, .groups = groups};
    bool own_credentials = s->uid >= 0 || s->gid >= 0 || s->groups_count >= 0;
    spawning.share_memory = s->share_memory && !own_credentials;
    struct quiet before;
    pds_quiet(&before);
    spawning.mask = before.mask;
    sigdelset(&spawning.mask, s->sig);
    int pid = pds_start(&spawning);
    if (pid > 0 && s->threads && spawning.settled)
        (spawning.reported ? end_of_report : end_of_file)(s->errpipe_read);
    pds_loud(&before);
    return pid;
}
