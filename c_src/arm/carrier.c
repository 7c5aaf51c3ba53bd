/* The carrier: a real-time signal by which the kernel says that the parent's thread has ended.
 *
 * PR_SET_PDEATHSIG (prctl(2)) speaks when the parent's *thread* exits. So the kernel sends the
 * carrier, and its handler asks getppid(). Unchanged: only a thread has ended, and this process was
 * handed to a sibling thread with its setting in place. Changed: the process is gone; the kernel
 * changes getppid() before it sends the signal (kernel/exit.c, forget_original_parent).
 *
 * THE RULES OF THE HANDLER, and of all that it calls. Async-signal-safe calls only
 * (signal-safety(7)): no malloc, no locks, no Python. It keeps errno. It may run on any thread, at
 * any time, more than once. */
#include "arm.h"

#include <stdatomic.h>

static atomic_int carrier;

/* With the parent outside our PID namespace getppid() is 0 before and after: the sender is all
 * there is. The dying parent has no PID here; no process inside the namespace can send that. */
static bool is_death(pid_t parent, const siginfo_t *info)
{
    if (parent == 0)
        return info->si_code == SI_USER && info->si_pid == 0;
    return parent > 0 && pds_orphaned(parent);
}

static void on_carrier_signal(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    int saved_errno = errno;
    if (pds_grace_expired(info))
        _exit(128 + SIGKILL);
    pds_main_thread_answer();
    const struct arming *now = pds_arming_now();
    if (now != NULL && is_death(now->parent, info) && pds_arming_claim(now))
        pds_deliver(now->sig, now->grace_ns, &now->notice);
    errno = saved_errno;
}

bool pds_carrier_is_handled(int sig)
{
    struct sigaction action;
    return sig != 0 && sigaction(sig, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) &&
           action.sa_sigaction == on_carrier_signal;
}

static bool is_unused(int sig)
{
    struct sigaction action;
    return sigaction(sig, NULL, &action) == 0 && (pds_action_is(&action, SIG_DFL) || pds_action_is(&action, SIG_IGN));
}

/* Any real-time signal that the program does not use: valgrind has SIGRTMAX, the JVM SIGRTMAX-2,
 * most programs count up from SIGRTMIN. */
static int choose(int avoid)
{
    for (int sig = SIGRTMAX - 4; sig > SIGRTMIN; sig--) {
        if (sig != avoid && is_unused(sig))
            return sig;
    }
    return 0;
}

static int handle(int sig)
{
    struct sigaction action = {.sa_sigaction = on_carrier_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    return sigaction(sig, &action, NULL) < 0 ? pds_fail(errno, "sigaction") : sig;
}

int pds_carrier(void)
{
    return atomic_load(&carrier);
}

int pds_carrier_install(int avoid)
{
    int sig = pds_carrier();
    if (sig != avoid && pds_carrier_is_handled(sig))
        return sig;
    sig = choose(avoid);
    return sig == 0 ? pds_fail(EBUSY, "sigaction") : handle(sig);
}

void pds_carrier_use(int sig)
{
    atomic_store(&carrier, sig);
}

/* If the program has taken our handler for this signal away, and put none in its place. */
int pds_carrier_handle_again(int sig)
{
    return is_unused(sig) ? handle(sig) : sig;
}

/* A signal that was the carrier before, and is now to have its own meaning. */
void pds_carrier_give_back(int sig)
{
    if (sig != pds_carrier() && pds_carrier_is_handled(sig))
        signal(sig, SIG_DFL);
}
