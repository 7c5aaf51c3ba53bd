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

IN_CHILD static char *append(char *end, const char *text)
{
    while (*text != '\0')
        *end++ = *text++;
    return end;
}

/* In the form that subprocess.Popen reads: "OSError:", errno in hexadecimal, ":", what. */
IN_CHILD static void report(int fd, unsigned int error, const char *what)
{
    char text[64], *end = append(text, "OSError:");
    for (int shift = 28; shift >= 0; shift -= 4) {
        if (error >> shift != 0)
            *end++ = "0123456789ABCDEF"[error >> shift & 15];
    }
    end = append(append(end, ":"), what);
    syscall(SYS_write, fd, text, end - text);
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
    return fd == -1 || pds_child_duplicate(fd, standard);
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

IN_CHILD static bool take_credentials(const struct pds_spawn *s)
{
    return (s->groups_count < 0 || syscall(SETGROUPS, s->groups_count, s->groups) == 0) &&
           (s->gid < 0 || syscall(SETREGID, (gid_t)s->gid, (gid_t)s->gid) == 0) &&
           (s->uid < 0 || syscall(SETREUID, (uid_t)s->uid, (uid_t)s->uid) == 0);
}

/* In CPython's order. Returns when it has not execed, with what subprocess.Popen is to be told. */
IN_CHILD static const char *try_to_become(struct spawning *spawning)
{
    const struct pds_spawn *s = spawning->s;
    if (!pds_child_keep(s) || !take_standard_descriptors(s))
        return NOEXEC;
    if (s->cwd != NULL && syscall(SYS_chdir, s->cwd) != 0)
        return s->says_chdir ? NOEXEC_CHDIR : NOEXEC;
    if (s->umask >= 0)
        syscall(SYS_umask, s->umask);
    pds_child_begin(spawning);
    if (!pds_child_take_group(s) || !take_credentials(s) || !pds_child_bind(spawning))
        return NOEXEC;
    if (s->close_fds)
        pds_child_close_from(spawning, STDERR_FILENO + 1);
    pds_child_exec(spawning);
    return "";
}

IN_CHILD static void become(struct spawning *spawning)
{
    const char *what = try_to_become(spawning);
    report(spawning->s->errpipe_write, (unsigned int)errno, what);
    spawning->reported = true;
}

/* subprocess now reads from errpipe_read until all have closed the other end. A process that
 * another thread forked meanwhile may hold that for long. So errpipe_read becomes a socket with the
 * child's report in it, if any. No pipe: a fork might keep its other end open too. */
static void end_reports(const struct spawning *spawning)
{
    int errpipe_read = spawning->s->errpipe_read, pair[2];
    char text[64];
    if (!spawning->s->threads || !spawning->settled || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    ssize_t length = spawning->reported ? read(errpipe_read, text, sizeof text) : 0;
    if (length > 0)
        send(pair[0], text, (size_t)length, MSG_NOSIGNAL);
    shutdown(pair[0], SHUT_WR);
    dup3(pair[1], errpipe_read, O_CLOEXEC);
    close(pair[0]);
    close(pair[1]);
}

int pds_spawn(struct pds_spawn *s)
{
    bool own_credentials = s->uid >= 0 || s->gid >= 0 || s->groups_count >= 0;
    struct spawning spawning = {.s = s, .become = become, .started = end_reports};
    spawning.share_memory = s->share_memory && !own_credentials;
    if (s->restore_signals)
        spawning.defaults = (uint64_t)1 << (SIGPIPE - 1) | (uint64_t)1 << (SIGXFSZ - 1);
    return pds_start(&spawning);
}
