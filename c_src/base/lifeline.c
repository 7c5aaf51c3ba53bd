/* The lifeline: a pipe. Its write end is this process's alone. When the process dies, the last
 * write end closes. Then the kernel itself signals what each read end names: a process, or a whole
 * process group, with no helper (fcntl(2), F_SETSIG and F_SETOWN). It follows the process, not a
 * thread, and survives the exec of any program.
 *
 * One pipe serves all children. Each has a read end of its own, an open file description, to which
 * signal and owner belong. In a forked child of ours the write end is closed. */
#include "../proc/proc.h"
#include "base.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { HIGH = 200 }; /* out of the way of a shell's `exec 3>file` */

static int write_end = -1;
static struct stat file;
static bool for_forked; /* children of fork may need one, in case they exec */

/* In such a child: its read end, or -errno: why there is none. What its forker's write end is: for
 * a second try. */
static int inherited = -ENODATA, forkers_write_end;
static struct stat forkers_file;

/* By a child that is forked now, if it execs. Its parent thread may end; or the kernel forgets the
 * parent-death signal, as at the exec of a set-user-ID program. */
static bool needed_after_exec(bool forked_on_main)
{
    return for_forked && (!forked_on_main || geteuid() != getuid() || getegid() != getgid());
}

/* A duplicate of fd with a high number; fd is closed. */
static int dup_high(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    if (high < 0)
        high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1); /* EINVAL: RLIMIT_NOFILE is lower */
    int error = errno;
    close(fd);
    return high < 0 ? pds_fail(error, "fcntl") : high;
}

static int make(void)
{
    int ends[2];
    if (pds_is_file(write_end, &file))
        return 0;
    write_end = -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return pds_fail(errno, "pipe2");
    close(ends[0]);
    int fd = dup_high(ends[1]);
    if (fd < 0)
        return fd;
    fstat(fd, &file);
    write_end = fd;
    return 0;
}

static int open_read_end(const char *process, int fd_there)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/fd/%d", process, fd_there);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? pds_fail(errno, "open") : dup_high(fd);
}

int pds_lifeline(void)
{
    pthread_mutex_lock(&pds_lock);
    int r = make();
    if (r >= 0)
        r = open_read_end("thread-self", write_end);
    pthread_mutex_unlock(&pds_lock);
    return r;
}

void pds_lifeline_for_forked(int wanted)
{
    pthread_mutex_lock(&pds_lock);
    for_forked = wanted;
    pthread_mutex_unlock(&pds_lock);
}

/* pexpect's child closes all descriptors that it does not know before it execs. Then the read end
 * is opened anew, by the forker's write end. */
int pds_inherited_lifeline(void)
{
    if (inherited < 0 || pds_is_file(inherited, &forkers_file))
        return inherited;
    char forker[16];
    snprintf(forker, sizeof forker, "%d", pds_parent());
    int fd = open_read_end(forker, forkers_write_end);
    if (fd >= 0 && !pds_is_file(fd, &forkers_file)) {
        close(fd);
        return pds_fail(EBADF, "open");
    }
    if (fd >= 0)
        inherited = fd;
    return fd;
}

/* By direct system calls, as this also runs in a child that shares its parent's memory. */
IN_CHILD int pds_lifeline_hold(int lifeline, int sig, int group)
{
    if (write_end >= 0 && write_end != lifeline)
        syscall(SYS_close, write_end); /* our copy, if this is a vfork child */
    return pds_lifeline_follow(lifeline, sig, group);
}

IN_CHILD int pds_lifeline_follow(int lifeline, int sig, bool group)
{
    long self = syscall(SYS_getpid);
    if (syscall(FCNTL, lifeline, F_SETSIG, sig) < 0 || syscall(FCNTL, lifeline, F_SETOWN, group ? -self : self) < 0 ||
        syscall(FCNTL, lifeline, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
        return -errno;
    struct pollfd end = {.fd = lifeline};
    struct timespec now = {0};
    return syscall(SYS_ppoll, &end, 1, &now, NULL, 0) > 0;
}

void pds_lifeline_before_fork(void)
{
    if (needed_after_exec(pds_on_main_thread()))
        make(); /* a failure matters to the child alone, if it execs */
}

void pds_lifeline_after_fork_in_child(void)
{
    if (pds_is_file(inherited, &forkers_file)) /* our forker's own */
        close(inherited);
    bool wanted = needed_after_exec(pds_forked_on_main());
    inherited = wanted ? pds_fail(EMFILE, "pipe2") : -ENODATA;
    if (pds_is_file(write_end, &file)) {
        if (wanted)
            inherited = open_read_end("thread-self", write_end);
        forkers_write_end = write_end;
        forkers_file = file;
        close(write_end);
    }
    write_end = -1;
}
