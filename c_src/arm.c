/* Arm this process: it gets a signal when its parent *process* dies.
 *
 * PR_SET_PDEATHSIG (prctl(2)) speaks when the parent's *thread* exits. So it carries a real-time signal, the news,
 * whose handler asks getppid(): unchanged means that only a thread died, and the child was handed to a sibling thread
 * with its setting in place; changed means that the process is gone, and the kernel changes it before it sends the
 * signal (kernel/exit.c, forget_original_parent).
 *
 * THE HANDLER'S RULES: async-signal-safe calls only (signal-safety(7)); no malloc, no locks, no Python; errno is kept;
 * it may run on any thread, at any time, more than once. The arming it reads is complete before it is published
 * and whoever swaps it out, handler, keeper or race check, is the only one to deliver it. */
#include "internal.h"
#include "pdeathsig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum thread { MAIN, KEEPER };
enum { ANSWER_WITHIN = 1 /* second */ };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct arming slots[2];
static int slot;
static _Atomic(struct arming *) armed;
static atomic_bool fired;
static atomic_int news;

/* What is armed, for status and for undoing; under the lock. */
static int mechanism, armed_sig;
static int held[2]; /* the kernel's setting on each of the two threads that last */

static _Thread_local enum { UNKNOWN, YES, NO } on_main;

/* A prctl that the main thread is asked to make, in the news handler: only a thread itself can change or read its
 * setting. */
static struct {
    atomic_int state;
    int option, value, result, error;
    sem_t done;
} question;
enum { IDLE, ASKED, TAKEN };

static bool is_main(void)
{
    if (on_main == UNKNOWN)
        on_main = syscall(SYS_gettid) == getpid() ? YES : NO;
    return on_main == YES;
}

static int setting(int option, int value)
{
    int got = 0;
    if (prctl(option, option == PR_GET_PDEATHSIG ? (long)&got : value) < 0)
        return pds_fail(errno, "prctl");
    return got;
}

bool pds_claim(struct arming *arming)
{
    struct arming *expected = arming;
    if (arming == NULL || !atomic_compare_exchange_strong(&armed, &expected, NULL))
        return false;
    atomic_store(&fired, true);
    return true;
}

/* With the parent outside our PID namespace getppid() is 0 before and after: the kernel's word is all there is. It
 * comes from a process that has no PID here; nobody inside can send that. */
static bool is_death(pid_t parent, const siginfo_t *info)
{
    if (parent == 0)
        return info->si_code == SI_USER && info->si_pid == 0;
    return parent > 0 && pds_orphaned(parent);
}

static void on_news(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    int saved_errno = errno;
    int asked = ASKED;
    if (pds_grace_expired(info))
        _exit(128 + SIGKILL);
    if (atomic_load(&question.state) == ASKED && syscall(SYS_gettid) == getpid() &&
        atomic_compare_exchange_strong(&question.state, &asked, TAKEN)) {
        question.result =
            prctl(question.option, question.option == PR_GET_PDEATHSIG ? (long)&question.value : question.value);
        question.error = errno;
        sem_post(&question.done);
    }
    struct arming *now = atomic_load(&armed);
    if (now != NULL && is_death(now->parent, info) && pds_claim(now))
        pds_deliver(now->sig, now->grace_ns, &now->notice);
    errno = saved_errno;
}

static bool handles_news(int sig)
{
    struct sigaction action;
    return sig != 0 && sigaction(sig, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) &&
           action.sa_sigaction == on_news;
}

static bool is_unused(int sig)
{
    struct sigaction action;
    return sigaction(sig, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
           (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
}

/* Any real-time signal that nobody uses: valgrind has SIGRTMAX, the JVM SIGRTMAX-2, most programs count up from
 * SIGRTMIN. */
static int choose_news(int avoid)
{
    for (int sig = SIGRTMAX - 4; sig > SIGRTMIN; sig--) {
        if (sig != avoid && is_unused(sig))
            return sig;
    }
    return 0;
}

static int install(int sig)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_news;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    if (sigaction(sig, &action, NULL) < 0)
        return pds_fail(errno, "sigaction");
    return 0;
}

int pds_handle_again(int sig)
{
    return is_unused(sig) ? install(sig) : 0;
}

/* Afterwards our handler is in place for a signal other than `avoid`. */
static int handle_news(int avoid)
{
    int sig = atomic_load(&news);
    if (sig != avoid && handles_news(sig))
        return 0;
    int next = choose_news(avoid);
    if (next == 0)
        return pds_fail(EBUSY, "sigaction");
    int r = install(next);
    if (r >= 0)
        r = pds_keeper_listen(next);
    if (r < 0)
        return r;
    atomic_store(&news, next);
    return 0;
}

/* A signal that carried the news before, and now is to mean what it means. */
static void give_back(int sig)
{
    if (sig != atomic_load(&news) && handles_news(sig))
        signal(sig, SIG_DFL);
}

/* What would swallow a signal: an inherited SIG_IGN, a blocked mask. */
struct swallowed {
    int ignored; /* signal number, or 0 */
    sigset_t mask;
};

static void unswallow(int sig, int carrier, struct swallowed *before)
{
    sigset_t both;
    sigemptyset(&both);
    before->ignored = 0;
    if (sig != SIGKILL && sig != SIGSTOP) {
        struct sigaction action;
        sigaddset(&both, sig);
        if (sigaction(sig, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN) {
            before->ignored = sig;
            signal(sig, SIG_DFL);
        }
    }
    if (carrier != 0)
        sigaddset(&both, carrier);
    pthread_sigmask(SIG_UNBLOCK, &both, &before->mask);
}

static void swallow_again(const struct swallowed *before)
{
    if (before->ignored != 0)
        signal(before->ignored, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, &before->mask, NULL);
}

static int ask_main(int option, int value)
{
    int r = handle_news(0);
    if (r < 0)
        return r;
    while (sem_trywait(&question.done) == 0) /* an answer that came too late for an earlier question */
        ;
    question.option = option;
    question.value = value;
    atomic_store(&question.state, ASKED);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_WITHIN;
    r = (int)syscall(SYS_tgkill, getpid(), getpid(), atomic_load(&news));
    while (r == 0 && sem_timedwait(&question.done, &until) < 0) {
        int asked = ASKED;
        if (errno == ETIMEDOUT && atomic_compare_exchange_strong(&question.state, &asked, IDLE))
            return pds_fail(ETIMEDOUT, "tgkill"); /* it blocks the signal, or is stopped */
    }
    atomic_store(&question.state, IDLE);
    if (r < 0)
        return pds_fail(errno, "tgkill");
    if (question.result < 0)
        return pds_fail(question.error, "prctl");
    return option == PR_GET_PDEATHSIG ? question.value : 0;
}

static int ask_keeper(int option, int value)
{
    int r = handle_news(0);
    return r < 0 ? r : pds_keeper_prctl(atomic_load(&news), option, value);
}

static int setting_on(enum thread thread, int option, int value)
{
    int r;
    if (thread == KEEPER)
        r = ask_keeper(option, value);
    else
        r = is_main() ? setting(option, value) : ask_main(option, value);
    if (r >= 0 && option == PR_SET_PDEATHSIG)
        held[thread] = value;
    return r;
}

static int release(enum thread thread)
{
    if (held[thread] == 0)
        return 0;
    int r = setting_on(thread, PR_SET_PDEATHSIG, 0);
    /* News that nobody waits for is ignored by the handler; any other signal would still kill. */
    return r < 0 && held[thread] == atomic_load(&news) ? 0 : r;
}

/* The main thread holds what it arms itself; what any other thread arms is held by the keeper, which lasts. */
static int hold(int value)
{
    enum thread here = is_main() ? MAIN : KEEPER;
    if (here == MAIN && value != 0 && held[KEEPER] == 0) { /* nearly always */
        int r = setting(PR_SET_PDEATHSIG, value);
        if (r >= 0)
            held[MAIN] = value;
        return r;
    }
    int before = held[here];
    int r = value == 0 ? release(here) : setting_on(here, PR_SET_PDEATHSIG, value);
    if (r < 0)
        return r;
    r = release(here == MAIN ? KEEPER : MAIN);
    if (r < 0) {
        const char *call = pds_failed_call();
        setting_on(here, PR_SET_PDEATHSIG, before);
        return pds_fail(-r, call);
    }
    return 0;
}

/* Whom to watch, and the line of each: strings that follow each other. */
struct watches {
    const int *pids;
    int count;
    const char *notices;
};

/* One that is gone is found so later, as if it had died just after. */
static int watch_all(const struct watches *watches, struct arming *next)
{
    const char *notice = watches->notices;
    for (int i = 0; i < watches->count; i++) {
        int r = pds_keeper_watch(atomic_load(&news), watches->pids[i], notice, next);
        if (r < 0 && r != -ESRCH) {
            const char *call = pds_failed_call();
            pds_keeper_drop(next);
            return pds_fail(-r, call);
        }
        notice += strlen(notice) + 1;
    }
    return 0;
}

/* The line of one that has died; NULL: all live. */
static const char *gone_already(const struct watches *watches, const struct arming *now)
{
    const char *notice = watches->notices;
    for (int i = 0; i < watches->count; i++) {
        if (!pds_keeper_watches(watches->pids[i], now))
            return notice;
        notice += strlen(notice) + 1;
    }
    return NULL;
}

static int prepare(struct arming *next, const struct watches *watches)
{
    int r = handle_news(next->sig);
    if (r >= 0 && next->grace_ns > 0)
        r = pds_grace_prepare(atomic_load(&news));
    return r < 0 ? r : watch_all(watches, next);
}

/* The kernel's setting first, then what it is to mean: until that is published, a death delivers what was armed before,
 * and a failure has nothing to take back. The check comes last, and finds what was missed. */
int pds_arm(int sig, int64_t grace_ns, int parent, const char *notice, const int *pids, int count,
            const char *watch_notices)
{
    const struct watches watches = {pids, count, watch_notices};
    struct swallowed before;
    struct notice gone;
    bool orphaned = false;
    pthread_mutex_lock(&lock);
    struct arming *next = &slots[!slot];
    *next = (struct arming){.sig = sig, .grace_ns = grace_ns, .parent = parent};
    pds_notice_set(&next->notice, notice);
    int r = prepare(next, &watches);
    if (r < 0)
        goto out;
    unswallow(sig, atomic_load(&news), &before);
    r = hold(parent >= 0 ? atomic_load(&news) : 0);
    if (r < 0) {
        const char *call = pds_failed_call();
        swallow_again(&before);
        pds_keeper_drop(next);
        pds_fail(-r, call);
        goto out;
    }
    give_back(sig);
    pds_notice_remember_stderr();
    atomic_store(&fired, false);
    atomic_store(&armed, next);
    mechanism = parent >= 0 ? PDS_PROCESS : PDS_WATCH;
    armed_sig = sig;
    slot = !slot;
    r = 0;
    pds_keeper_keep_only(next);
    const char *line = gone_already(&watches, next);
    orphaned = (line != NULL || (parent > 0 && pds_orphaned(parent))) && pds_claim(next);
    pds_notice_set(&gone, line != NULL ? line : notice);
out:
    pthread_mutex_unlock(&lock);
    if (orphaned)
        pds_deliver(sig, grace_ns, &gone);
    return r;
}

int pds_arm_thread(int sig)
{
    struct swallowed before;
    pthread_mutex_lock(&lock);
    int r = sig == atomic_load(&news) ? handle_news(sig) : 0;
    if (r < 0)
        goto out;
    if (sig != SIGKILL)
        unswallow(sig, 0, &before);
    r = hold(sig);
    if (r < 0) {
        const char *call = pds_failed_call();
        if (sig != SIGKILL)
            swallow_again(&before);
        pds_fail(-r, call);
        goto out;
    }
    if (sig != SIGKILL)
        give_back(sig);
    atomic_store_explicit(&armed, NULL, memory_order_release);
    if (mechanism != PDS_THREAD)
        pds_keeper_keep_only(NULL);
    atomic_store_explicit(&fired, false, memory_order_release);
    mechanism = PDS_THREAD;
    armed_sig = sig;
out:
    pthread_mutex_unlock(&lock);
    return r < 0 ? r : pds_parent_is_gone();
}

int pds_preexec(int sig)
{
    sigset_t just_sig;
    atomic_store(&armed, NULL);
    /* A handler of the parent's is still in place until exec, and would swallow it just as SIG_IGN does. */
    sigemptyset(&just_sig);
    if (sig != 0 && sig != SIGKILL && sig != SIGSTOP) {
        signal(sig, SIG_DFL);
        sigaddset(&just_sig, sig);
        pthread_sigmask(SIG_UNBLOCK, &just_sig, NULL);
    }
    int r = setting(PR_SET_PDEATHSIG, sig);
    return r < 0 ? r : pds_parent_is_gone();
}

/* In case the exec fails. */
static struct {
    int sig;      /* 0: nothing was changed */
    int lifeline; /* < 0: none */
    struct sigaction action;
    sigset_t mask;
} exec_before;

/* Our handler, and the program's, end with the exec; the program's would swallow sig before that. */
static void let_die_of(int sig)
{
    sigset_t just_sig;
    sigaction(sig, NULL, &exec_before.action);
    if (sig != SIGKILL && sig != SIGSTOP)
        signal(sig, SIG_DFL);
    sigemptyset(&just_sig);
    sigaddset(&just_sig, sig);
    pthread_sigmask(SIG_UNBLOCK, &just_sig, &exec_before.mask);
}

int pds_exec_begins(int sig)
{
    struct arming *now = atomic_load(&armed);
    int lifeline = pds_lifeline_of_forker();
    bool by_main = pds_forked_on_main();
    exec_before.sig = 0;
    if (now == NULL || now->parent <= 0 || now->parent != pds_parent() || (lifeline == -ENODATA && !by_main))
        return 0;
    if (lifeline < 0 && lifeline != -ENODATA)
        return pds_parent_is_gone() ? 1 : pds_fail(-lifeline, "open");
    exec_before.sig = sig;
    exec_before.lifeline = lifeline;
    let_die_of(sig);
    int r = lifeline >= 0 ? pds_lifeline_follow(lifeline, sig, false) : 0;
    if (r < 0)
        return pds_fail(-r, "fcntl");
    if (lifeline >= 0)
        fcntl(lifeline, F_SETFD, 0);
    int held_now = setting(PR_SET_PDEATHSIG, by_main ? sig : 0);
    return held_now < 0 ? held_now : r > 0 || pds_parent_is_gone();
}

void pds_exec_failed(void)
{
    int sig = exec_before.sig;
    if (sig == 0)
        return;
    if (exec_before.lifeline >= 0) {
        fcntl(exec_before.lifeline, F_SETFD, FD_CLOEXEC);
        fcntl(exec_before.lifeline, F_SETFL, O_NONBLOCK);
    }
    if (sig != SIGKILL && sig != SIGSTOP)
        sigaction(sig, &exec_before.action, NULL);
    pthread_sigmask(SIG_SETMASK, &exec_before.mask, NULL);
}

int pds_armed(void)
{
    return atomic_load(&fired) ? PDS_NONE : mechanism;
}

int pds_fire(const char *text)
{
    struct arming *now = atomic_load(&armed);
    if (!pds_claim(now))
        return 0;
    struct notice notice;
    pds_notice_set(&notice, text);
    pds_deliver(now->sig, now->grace_ns, &notice);
    return 1;
}

int pds_disarm(void)
{
    pthread_mutex_lock(&lock);
    int r = release(MAIN);
    if (r >= 0)
        r = release(KEEPER);
    if (r >= 0) {
        atomic_store(&armed, NULL);
        pds_grace_cancel();
        pds_keeper_keep_only(NULL);
        mechanism = PDS_NONE;
        atomic_store(&fired, false);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

int pds_status(struct pds_status *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&lock);
    const struct arming *last = &slots[slot];
    pds_keeper_counts(&out->watched, &out->watched_lost);
    out->fired = atomic_load(&fired);
    out->mechanism = mechanism | (out->watched + out->watched_lost > 0 ? PDS_WATCH : 0);
    out->sig = armed_sig;
    out->parent = pds_parent();
    if (mechanism == PDS_PROCESS || mechanism == PDS_WATCH) {
        out->grace_ns = last->grace_ns;
        out->parent = last->parent;
        out->news = atomic_load(&news);
        out->news_handled = handles_news(out->news);
    }
    enum thread holder = held[KEEPER] != 0 ? KEEPER : MAIN;
    if (held[holder] != 0)
        out->holder = holder == KEEPER ? pds_keeper_tid() : getpid();
    out->kernel_sig = setting_on(holder, PR_GET_PDEATHSIG, 0);
    if (out->kernel_sig < 0)
        out->kernel_sig = -1;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
    pds_system_before_fork();
    pds_lifeline_before_fork();
    pds_identity_before_fork();
}

static void after_fork_in_parent(void)
{
    pds_lifeline_after_fork_in_parent();
    pds_system_after_fork_in_parent();
    pthread_mutex_unlock(&lock);
}

/* The kernel arms no child of fork; so nothing is armed here either. The handler stays, and finds nothing to do. */
static void after_fork_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    pds_identity_after_fork_in_child();
    atomic_store(&armed, NULL);
    atomic_store(&fired, false);
    atomic_store(&question.state, IDLE);
    mechanism = PDS_NONE;
    held[MAIN] = held[KEEPER] = 0;
    on_main = YES;
    pds_grace_after_fork_in_child();
    pds_keeper_after_fork_in_child();
    pds_owners_after_fork_in_child();
    pds_lifeline_after_fork_in_child();
    pds_system_after_fork_in_child();
}

int pds_init(void)
{
    static bool done;
    if (done)
        return 0;
    sem_init(&question.done, 0, 0);
    pds_parent();
    int error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (error != 0)
        return pds_fail(error, "pthread_atfork");
    done = true;
    return 0;
}
