/* The end: one line on stderr, then the signal. Runs in a signal handler: async-signal-safe calls only
 * (signal-safety(7)), no locks, no malloc. */
#include "internal.h"
#include "pdeathsig.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct stat stderr_when_armed;
static bool stderr_was_open;

void pds_notice_set(struct notice *notice, const char *text)
{
    notice->length = 0;
    if (text != NULL) {
        notice->length = strnlen(text, NOTICE_MAX);
        memcpy(notice->text, text, notice->length);
    }
}

void pds_notice_remember_stderr(void)
{
    stderr_was_open = fstat(STDERR_FILENO, &stderr_when_armed) == 0;
}

/* A program may have closed descriptor 2 and opened its database there: never write into a file that was not
 * stderr at arming, nor into anything if there was no stderr then. */
static bool is_stderr(const struct stat *now)
{
    if (!stderr_was_open)
        return false;
    if (S_ISCHR(now->st_mode) || S_ISFIFO(now->st_mode))
        return true;
    return now->st_dev == stderr_when_armed.st_dev && now->st_ino == stderr_when_armed.st_ino;
}

/* Never blocks: a full pipe whose reader is stuck must not keep us alive. */
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

static void say_to(int fd, const struct notice *notice)
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

static void say(const struct notice *notice)
{
    if (notice->length == 0)
        return;
    int fd = pds_keeper_lend_stderr();
    say_to(fd, notice);
    if (fd != STDERR_FILENO)
        close(fd);
}

static bool has_default_action(int sig)
{
    struct sigaction action;
    return sigaction(sig, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_DFL;
}

void pds_deliver(int sig, int64_t grace_ns, const struct notice *notice)
{
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); /* write(2) is where a cancelled thread would end */
    if (grace_ns > 0)
        pds_grace_start(grace_ns);
    prctl(PR_SET_PDEATHSIG, 0);
    say(notice);
    /* PID 1 of a namespace is spared every signal it sends to itself and does not handle. */
    bool spared = getpid() == 1 && has_default_action(sig);
    if (kill(getpid(), sig) < 0 || spared || sig == SIGKILL)
        _exit(128 + sig);
    pthread_setcancelstate(cancel_state, NULL);
}

int pds_die(int sig, const char *text)
{
    struct notice notice;
    pds_notice_set(&notice, text);
    pds_notice_remember_stderr();
    pds_deliver(sig, 0, &notice);
    return 0;
}
