/* The keeper: one small native thread, started at the first need only.
 *
 * 1. It watches any number of processes by pidfd and delivers when one dies.
 * 2. It lasts as long as the process. The kernel ties PR_SET_PDEATHSIG to the thread that set it, so an arming asked
 *    for by a thread that may end is made here.
 *
 * Its descriptor table is its own and holds nothing but the pidfds: nobody can close them, nobody else sees them,
 * and they can be had when the process has no descriptor left.
 * For the notice it borrows the process's stderr; held all the time, it would keep a pipe open that the program closed.
 *
 * All signals are blocked, but for the news signal while it waits in ppoll(2): that is how it is woken for a request
 * without a descriptor to wake it by, and why it hears the news when every other thread has blocked it. */
#include "internal.h"
#include "pdeathsig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same on all architectures but alpha */
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

enum { WATCHED_MAX = 80 /* twice all that one arming may ask for */, STACK_SIZE = 256 * 1024 };
enum { NOTHING, PRCTL, WATCH, DROP, KEEP_ONLY, LISTEN };

static bool runs;
static pthread_t keeper;
static int keeper_news;

/* The one request under way. Its senders hold the lock of arm.c, so there is never a second. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int what, option, value;
    pid_t pid;
    const char *notice;
    struct arming *arming;
    int result;
    const char *failed_call;
} request = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

/* Only the keeper writes these; the counts are read by others under request.lock. */
static struct pollfd polled[WATCHED_MAX];
static struct watched {
    pid_t pid;
    struct stat file;
    struct arming *arming; /* what its death delivers, if that is still what is armed */
    struct notice notice;
} watched[WATCHED_MAX];
static int watched_count, watched_lost;
static bool own_table;
static pid_t tid;

static void forget(int i)
{
    watched_count--;
    polled[i] = polled[watched_count];
    watched[i] = watched[watched_count];
}

/* Where close_range(2) is missing or denied the table is shared, and somebody may close our descriptor and open a
 * file of their own in its place. */
static bool still_ours(int i)
{
    struct stat now;
    return !(polled[i].revents & POLLNVAL) && fstat(polled[i].fd, &now) == 0 && now.st_dev == watched[i].file.st_dev &&
           now.st_ino == watched[i].file.st_ino;
}

static int watch(pid_t pid, const char *text, struct arming *arming)
{
    if (watched_count == WATCHED_MAX)
        return pds_fail(E2BIG, "pdeathsig keeper");
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return pds_fail(errno, "pidfd_open");
    if (fd <= STDERR_FILENO) { /* as it is in a table of its own: that place is for pds_keeper_lend_stderr */
        int low = fd;
        fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(low);
        if (fd < 0)
            return pds_fail(errno, "fcntl");
    }
    struct watched *w = &watched[watched_count];
    if (fstat(fd, &w->file) < 0) {
        int error = errno;
        close(fd);
        return pds_fail(error, "fstat");
    }
    w->pid = pid;
    w->arming = arming;
    pds_notice_set(&w->notice, text);
    polled[watched_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return 0;
}

/* Drops what is watched for that arming, or all else. */
static void drop(const struct arming *arming, bool all_else)
{
    for (int i = watched_count - 1; i >= 0; i--) {
        if ((watched[i].arming == arming) != all_else) {
            if (still_ours(i))
                close(polled[i].fd);
            forget(i);
        }
    }
    if (all_else)
        watched_lost = 0;
}

static void serve(void)
{
    pthread_mutex_lock(&request.lock);
    if (request.what != NOTHING) {
        if (request.what == PRCTL) {
            int r = 0;
            if (prctl(request.option, request.option == PR_GET_PDEATHSIG ? (long)&r : request.value) < 0)
                r = pds_fail(errno, "prctl");
            request.result = r;
        } else if (request.what == WATCH) {
            request.result = watch(request.pid, request.notice, request.arming);
        } else if (request.what == LISTEN) {
            keeper_news = request.value;
            request.result = 0;
        } else {
            drop(request.arming, request.what == KEEP_ONLY);
            request.result = 0;
        }
        request.failed_call = pds_failed_call();
        request.what = NOTHING;
        pthread_cond_signal(&request.done);
    }
    pthread_mutex_unlock(&request.lock);
}

static void look_for_the_dead(void)
{
    for (int i = watched_count - 1; i >= 0; i--) {
        if (polled[i].revents == 0)
            continue;
        struct notice notice = watched[i].notice;
        struct arming *arming = watched[i].arming;
        bool ours = still_ours(i);
        pthread_mutex_lock(&request.lock);
        if (ours)
            close(polled[i].fd);
        else
            watched_lost++;
        forget(i);
        pthread_mutex_unlock(&request.lock);
        if (ours && pds_claim(arming))
            pds_deliver(arming->sig, arming->grace_ns, &notice);
    }
}

int pds_keeper_lend_stderr(void)
{
    if (!own_table || syscall(SYS_gettid) != tid)
        return STDERR_FILENO;
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int fd = (int)syscall(SYS_pidfd_getfd, self, STDERR_FILENO, 0);
    if (fd < 0) /* before Linux 5.6, or denied */
        fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
    close(self);
    return fd;
}

static void *keep(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "pdeathsig");
    tid = (pid_t)syscall(SYS_gettid);
    own_table = syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE) == 0;
    for (;;) {
        serve();
        sigset_t all_but_news;
        sigfillset(&all_but_news);
        sigdelset(&all_but_news, keeper_news);
        if (ppoll(polled, (nfds_t)watched_count, NULL, &all_but_news) > 0)
            look_for_the_dead();
    }
    return NULL;
}

static int create(size_t stack_size)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (stack_size > 0)
        pthread_attr_setstacksize(&attributes, stack_size);
    int error = pthread_create(&keeper, &attributes, keep, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static int start(int news)
{
    if (runs)
        return 0;
    keeper_news = news;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = create(STACK_SIZE);
    if (error == EINVAL) /* a library's thread-local storage does not fit */
        error = create(0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return pds_fail(error, "pthread_create");
    runs = true;
    return 0;
}

/* request.lock is held, and all but `what` filled in. */
static int ask(int what)
{
    int r = pds_handle_again(keeper_news); /* else the signal would not wake but kill, or be ignored */
    if (r < 0)
        return r;
    request.what = what;
    /* EAGAIN: too many signals are queued for this user (RLIMIT_SIGPENDING) */
    int error = pthread_kill(keeper, keeper_news);
    if (error != 0) {
        request.what = NOTHING;
        return pds_fail(error, "pthread_kill");
    }
    while (request.what != NOTHING)
        pthread_cond_wait(&request.done, &request.lock);
    return request.result < 0 ? pds_fail(-request.result, request.failed_call) : request.result;
}

int pds_keeper_prctl(int news, int option, int value)
{
    int r = start(news);
    if (r < 0)
        return r;
    pthread_mutex_lock(&request.lock);
    request.option = option;
    request.value = value;
    r = ask(PRCTL);
    pthread_mutex_unlock(&request.lock);
    return r;
}

pid_t pds_keeper_tid(void)
{
    return tid;
}

int pds_keeper_watch(int news, pid_t pid, const char *notice, struct arming *arming)
{
    int r = start(news);
    if (r < 0)
        return r;
    pthread_mutex_lock(&request.lock);
    request.pid = pid;
    request.notice = notice;
    request.arming = arming;
    r = ask(WATCH);
    pthread_mutex_unlock(&request.lock);
    return r;
}

bool pds_keeper_watches(pid_t pid, const struct arming *arming)
{
    bool found = false;
    pthread_mutex_lock(&request.lock);
    for (int i = 0; i < watched_count; i++)
        found |= watched[i].pid == pid && watched[i].arming == arming;
    pthread_mutex_unlock(&request.lock);
    return found;
}

void pds_keeper_drop(struct arming *arming)
{
    pthread_mutex_lock(&request.lock);
    request.arming = arming;
    if (watched_count > 0)
        ask(DROP);
    pthread_mutex_unlock(&request.lock);
}

void pds_keeper_keep_only(struct arming *arming)
{
    pthread_mutex_lock(&request.lock);
    request.arming = arming;
    if (watched_count + watched_lost > 0)
        ask(KEEP_ONLY);
    pthread_mutex_unlock(&request.lock);
}

int pds_keeper_listen(int news)
{
    int r = 0;
    pthread_mutex_lock(&request.lock);
    request.value = news;
    if (runs && keeper_news != news)
        r = ask(LISTEN); /* woken by the old number, it then waits for the new one */
    pthread_mutex_unlock(&request.lock);
    return r;
}

void pds_keeper_counts(int *count, int *lost)
{
    pthread_mutex_lock(&request.lock);
    *count = watched_count;
    *lost = watched_lost;
    pthread_mutex_unlock(&request.lock);
}

void pds_keeper_after_fork_in_child(void)
{
    if (!own_table)
        drop(NULL, true);
    runs = own_table = false;
    watched_count = watched_lost = 0;
    request.what = NOTHING;
    pthread_mutex_init(&request.lock, NULL);
    pthread_cond_init(&request.done, NULL);
}
