/* Start a program that dies with this process: what CPython's _posixsubprocess.fork_exec does, and
 * the binding. The functions marked IN_CHILD keep the rules of child.c.
 *
 * Memory is not shared when the child changes user or groups. The kernel would take our own right
 * to be traced and to dump core for good (PR_SET_DUMPABLE belongs to the memory). And two
 * identities in one memory are a risk (bpo-35823). */
#include "../proc/proc.h"
#include "spawn.h"

#include <fcntl.h>
#include <sys/socket.h>

static const char NOEXEC[] = "noexec", NOEXEC_CHDIR[] = "noexec:chdir";

IN_CHILD static bool write_all(int fd, const char *text, size_t length)
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

/* In the form that subprocess.Popen reads. */
IN_CHILD static void report(int fd, int error, const char *what)
{
    char hex[2 * sizeof error];
    size_t start = sizeof hex;
    for (unsigned int rest = (unsigned int)error; rest != 0; rest /= 16)
        hex[--start] = "0123456789ABCDEF"[rest % 16];
    size_t length = 0;
    while (what[length] != '\0')
        length++;
    if (write_all(fd, "OSError:", 8) && write_all(fd, hex + start, sizeof hex - start) && write_all(fd, ":", 1))
        write_all(fd, what, length);
}

IN_CHILD static bool close_one(int fd)
{
    return fd == -1 || syscall(SYS_close, fd) == 0;
}

/* A copy of fd, above those that are about to become standard input, output and error. */
IN_CHILD static int dup_above_standard(int fd)
{
    return (int)syscall(FCNTL, fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

IN_CHILD static bool make_standard(int fd, int standard)
{
    if (fd == -1)
        return true;
    return fd == standard ? pds_child_set_close_on_exec(fd, false) : syscall(SYS_dup3, fd, standard, 0) == standard;
}

IN_CHILD static bool take_standard_descriptors(const struct pds_spawn *s)
{
    int out = s->c2pwrite, err = s->errwrite;
    if (!close_one(s->p2cwrite) || !close_one(s->c2pread) || !close_one(s->errread) || !close_one(s->errpipe_read))
        return false;
    if (out == STDIN_FILENO && (out = dup_above_standard(out)) < 0)
        return false;
    if ((err == STDIN_FILENO || err == STDOUT_FILENO) && (err = dup_above_standard(err)) < 0)
        return false;
    return make_standard(s->p2cread, STDIN_FILENO) && make_standard(out, STDOUT_FILENO) &&
           make_standard(err, STDERR_FILENO);
}

IN_CHILD static bool take_credentials(const struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    return (s->groups_count < 0 || syscall(SETGROUPS, s->groups_count, spawning->groups) == 0) &&
           (s->gid < 0 || syscall(SETREGID, (gid_t)s->gid, (gid_t)s->gid) == 0) &&
           (s->uid < 0 || syscall(SETREUID, (uid_t)s->uid, (uid_t)s->uid) == 0);
}

/* In CPython's order. Returns when it has not execed, with what subprocess.Popen is to be told. */
IN_CHILD static const char *try_to_become(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    if (!pds_child_keep(spawning) || !take_standard_descriptors(s))
        return NOEXEC;
    if (spawning->cwd != NULL && syscall(SYS_chdir, spawning->cwd) != 0)
        return s->says_chdir ? NOEXEC_CHDIR : NOEXEC;
    if (s->umask >= 0)
        syscall(SYS_umask, s->umask);
    pds_child_take_attributes(spawning);
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

IN_CHILD static void become(struct spawning *spawning)
{
    const char *what = try_to_become(spawning);
    report(spawning->s->errpipe_write, errno, what);
    spawning->reported = true;
}

/* subprocess now reads from errpipe_read until all have closed the other end. A process that
 * another thread forked meanwhile may hold that for long. So errpipe_read becomes an empty file. */
static void replace_by_nothing(int errpipe_read)
{
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0) {
        dup3(nothing, errpipe_read, O_CLOEXEC);
        close(nothing);
    }
}

/* The same, with the child's report in it. No pipe: a fork might keep its other end open too. */
static void replace_by_report(int errpipe_read)
{
    char text[64];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    ssize_t length = read(errpipe_read, text, sizeof text);
    if (length > 0)
        send(pair[0], text, (size_t)length, MSG_NOSIGNAL);
    shutdown(pair[0], SHUT_WR);
    dup3(pair[1], errpipe_read, O_CLOEXEC);
    close(pair[0]);
    close(pair[1]);
}

int pds_spawn(struct pds_spawn *s, char **executables, char **argv, char **envp, const char *cwd, const int *keep,
              const uint32_t *groups)
{
    struct spawning spawning = {.s = s,
                                .become = become,
                                .executables = executables,
                                .argv = argv,
                                .envp = envp,
                                .cwd = cwd,
                                .keep = keep,
                                .groups = groups};
    bool own_credentials = s->uid >= 0 || s->gid >= 0 || s->groups_count >= 0;
    spawning.share_memory = s->share_memory && !own_credentials;
    struct signals before;
    pds_hold_signals(&before);
    spawning.mask = before.mask;
    sigdelset(&spawning.mask, s->sig);
    int pid = pds_start(&spawning);
    if (pid > 0 && s->threads && spawning.settled)
        (spawning.reported ? replace_by_report : replace_by_nothing)(s->errpipe_read);
    pds_restore_signals(&before);
    return pid;
}
