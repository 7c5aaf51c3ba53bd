/* The watcher thread: one small native thread, started at the first need only.
 *
 * 1. It watches any number of processes by pidfd and delivers when one dies.
 * 2. It lasts as long as the process. The kernel ties PR_SET_PDEATHSIG to the thread that set it,
 *    so an arming asked for by a thread that may end is made here.
 *
 * Its descriptor table is its own and holds nothing but the pidfds. The program can neither close
 * nor see them, and they can be had when the process has no descriptor left.
 *
 * It blocks all signals, but for the carrier while it waits in ppoll(2). By that signal it is woken
 * for a request, with no descriptor to wake it by. So it also hears of the parent's death when
 * every other thread has blocked the carrier. */
#include "../proc/proc.h"
#include "arm.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

enum { WATCHED_MAX = 80 /* twice all that one arming may ask for */, STACK_SIZE = 256 * 1024 };

static bool runs;
static pthread_t watcher;
static int carrier; /* the signal that it waits for */

/* The one request under way. What asks holds the lock, so there is never a second. */
struct request {
    int (*serve)(const struct request *request); /* on the watcher thread; NULL: none */
    int number;
    pid_t pid;
    const char *notice;
    const struct arming *arming;
    int result;
    const char *failed_call;
};
static struct request request;
static pthread_mutex_t request_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t request_done = PTHREAD_COND_INITIALIZER;

/* The watcher thread alone writes these; others read them under request_lock. A descriptor that is
 * lost is -1, which ppoll(2) passes over. */
static struct pollfd polled[WATCHED_MAX];
static struct watched {
    pid_t pid;
    struct stat file;
    const struct arming *arming; /* what its death delivers, if that is still what is armed */
    struct notice notice;
} watched[WATCHED_MAX];
static int watched_count;
static bool own_table;
static pid_t tid;

static void forget(int i)
{
    watched_count--;
    polled[i] = polled[watched_count];
    watched[i] = watched[watched_count];
}

/* Where close_range(2) is missing or denied, the program shares the table, and may close it. */
static bool still_ours(int i)
{
    return pds_is_file(polled[i].fd, &watched[i].file);
}

static int serve_setting(const struct request *asked)
{
    int r = pds_thread_setting(asked->number);
    return r < 0 ? pds_fail(-r, "prctl") : r;
}

static int serve_listen(const struct request *asked)
{
    carrier = asked->number;
    return 0;
}

static int serve_add(const struct request *asked)
{
    if (watched_count == WATCHED_MAX)
        return pds_fail(E2BIG, "pdeathsig watcher");
    int fd = (int)syscall(SYS_pidfd_open, asked->pid, 0);
    if (fd < 0)
        return pds_fail(errno, "pidfd_open");
    if (fd <= STDERR_FILENO) { /* the number that stderr is borrowed by (notice.c) */
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
    w->pid = asked->pid;
    w->arming = asked->arming;
    pds_notice_set(&w->notice, asked->notice);
    polled[watched_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return 0;
}

static void keep_only(const struct arming *arming)
{
    for (int i = watched_count - 1; i >= 0; i--) {
        if (watched[i].arming != arming) {
            if (still_ours(i))
                close(polled[i].fd);
            forget(i);
        }
    }
}

static int serve_keep_only(const struct request *asked)
{
    keep_only(asked->arming);
    return 0;
}

static void serve(void)
{
    pthread_mutex_lock(&request_lock);
    if (request.serve != NULL) {
        request.result = request.serve(&request);
        request.failed_call = pds_failed_call();
        request.serve = NULL;
        pthread_cond_signal(&request_done);
    }
    pthread_mutex_unlock(&request_lock);
}

static void deliver_deaths(void)
{
    for (int i = watched_count - 1; i >= 0; i--) {
        if (polled[i].revents == 0)
            continue;
        struct notice notice = watched[i].notice;
        const struct arming *arming = watched[i].arming;
        bool ours = still_ours(i);
        pthread_mutex_lock(&request_lock);
        if (ours) {
            close(polled[i].fd);
            forget(i);
        } else {
            polled[i].fd = -1;
        }
        pthread_mutex_unlock(&request_lock);
        if (ours && pds_arming_claim(arming))
            pds_deliver(arming->sig, arming->grace_ns, &notice);
    }
}

static void *run(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "pdeathsig");
    tid = (pid_t)syscall(SYS_gettid);
    own_table = syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE) == 0;
    if (own_table)
        pds_notice_own_table(tid);
    for (;;) {
        serve();
        sigset_t all_but_carrier;
        sigfillset(&all_but_carrier);
        sigdelset(&all_but_carrier, carrier);
        if (ppoll(polled, (nfds_t)watched_count, NULL, &all_but_carrier) > 0)
            deliver_deaths();
    }
    return NULL;
}

static int start(void)
{
    if (runs)
        return 0;
    carrier = pds_carrier();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pds_start_thread(&watcher, STACK_SIZE, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    runs = r >= 0;
    return r;
}

static int ask(struct request asked)
{
    int r = start();
    if (r >= 0)
        r = pds_carrier_handle_again(carrier); /* else it would not wake but kill, or be ignored */
    if (r < 0)
        return r;
    pthread_mutex_lock(&request_lock);
    request = asked;
    /* EAGAIN: too many signals are queued for this user (RLIMIT_SIGPENDING) */
    int error = pthread_kill(watcher, carrier);
    if (error != 0)
        request.serve = NULL;
    while (request.serve != NULL)
        pthread_cond_wait(&request_done, &request_lock);
    asked = request;
    pthread_mutex_unlock(&request_lock);
    if (error != 0)
        return pds_fail(error, "pthread_kill");
    return asked.result < 0 ? pds_fail(-asked.result, asked.failed_call) : asked.result;
}

int pds_watcher_setting(int sig)
{
    return ask((struct request){.serve = serve_setting, .number = sig});
}

pid_t pds_watcher_tid(void)
{
    return tid;
}

int pds_watcher_add(pid_t pid, const char *notice, const struct arming *arming)
{
    return ask((struct request){.serve = serve_add, .pid = pid, .notice = notice, .arming = arming});
}

bool pds_watcher_watches(pid_t pid, const struct arming *arming)
{
    bool found = false;
    pthread_mutex_lock(&request_lock);
    for (int i = 0; i < watched_count; i++)
        found |= watched[i].pid == pid && watched[i].arming == arming;
    pthread_mutex_unlock(&request_lock);
    return found;
}

void pds_watcher_keep_only(const struct arming *arming)
{
    int count, lost;
    pds_watcher_counts(&count, &lost);
    if (count + lost > 0)
        ask((struct request){.serve = serve_keep_only, .arming = arming});
}

/* Woken by the old number, it then waits for the new one. */
int pds_watcher_listen(int new_carrier)
{
    if (!runs || carrier == new_carrier)
        return 0;
    return ask((struct request){.serve = serve_listen, .number = new_carrier});
}

void pds_watcher_counts(int *count, int *lost)
{
    pthread_mutex_lock(&request_lock);
    *lost = 0;
    for (int i = 0; i < watched_count; i++)
        *lost += polled[i].fd < 0;
    *count = watched_count - *lost;
    pthread_mutex_unlock(&request_lock);
}

void pds_watcher_after_fork_in_child(void)
{
    if (!own_table)
        keep_only(NULL);
    runs = own_table = false;
    pds_notice_own_table(0);
    watched_count = 0;
    request.serve = NULL;
    pthread_mutex_init(&request_lock, NULL);
    pthread_cond_init(&request_done, NULL);
}
