/* The line on stderr before the process ends. The rules of the handler hold (carrier.c). */
#include "../proc/proc.h"
#include "arm.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

static struct stat stderr_when_armed;
static bool stderr_was_open;
static atomic_int own_table; /* thread ID */

void pds_notice_set(struct notice *notice, const char *text)
{
    notice->length = strnlen(text, NOTICE_MAX);
    memcpy(notice->text, text, notice->length);
}

void pds_notice_remember_stderr(void)
{
    stderr_was_open = fstat(STDERR_FILENO, &stderr_when_armed) == 0;
}

void pds_notice_own_table(pid_t thread)
{
    atomic_store(&own_table, thread);
}

/* A program may have closed descriptor 2 and opened its database there. So a file that was not
 * stderr at arming is never written to; and no file is if there was no stderr then. */
static bool is_stderr(const struct stat *now)
{
    if (!stderr_was_open)
        return false;
    if (S_ISCHR(now->st_mode) || S_ISFIFO(now->st_mode))
        return true;
    return now->st_dev == stderr_when_armed.st_dev && now->st_ino == stderr_when_armed.st_ino;
}

/* Never blocks: a full pipe with a stuck reader must not keep this process alive. */
static ssize_t write_now(int fd, const struct notice *notice, const struct stat *st)
{
    struct iovec line = {.iov_base = (void *)notice->text, .iov_len = notice->length};
    ssize_t n = pwritev2(fd, &line, 1, -1, RWF_NOWAIT);
    if (n >= 0 || errno == EPIPE || (errno == EAGAIN && !S_ISREG(st->st_mode)))
        return n;
    struct pollfd room = {.fd = fd, .events = POLLOUT}; /* no RWF_NOWAIT here: terminals, old kernels */
    if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return -1;
    return write(fd, notice->text, notice->length);
}

static void write_to(int fd, const struct notice *notice)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !is_stderr(&st))
        return;
    sigset_t sigpipe, both, before;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    both = sigpipe;
    sigaddset(&both, SIGTTOU); /* a background job under `stty tostop` would be stopped */
    pthread_sigmask(SIG_BLOCK, &both, &before);
    if (write_now(fd, notice, &st) < 0 && errno == EPIPE) {
        const struct timespec at_once = {0, 0};
        sigtimedwait(&sigpipe, NULL, &at_once);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The watcher thread does not hold stderr open: a pipe would then never be seen as closed. */
static int borrow_stderr(void)
{
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int fd = (int)syscall(SYS_pidfd_getfd, self, STDERR_FILENO, 0);
    if (fd < 0) /* before Linux 5.6, or denied */
        fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
    close(self);
    return fd;
}

void pds_notice_write(const struct notice *notice)
{
    if (notice->length == 0)
        return;
    if (atomic_load(&own_table) != (int)syscall(SYS_gettid)) {
        write_to(STDERR_FILENO, notice);
        return;
    }
    int fd = borrow_stderr();
    write_to(fd, notice);
    close(fd);
}
