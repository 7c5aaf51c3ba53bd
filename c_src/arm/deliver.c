/* The end: one line on stderr, then the signal. The rules of the handler hold (carrier.c). */
#include "arm.h"

/* An inherited SIG_IGN or a blocked mask would swallow the signal. So would the program's handler
 * right before an exec. */
void pds_make_deliverable(int sig, int carrier, bool drop_handler, struct disposition *before)
{
    sigset_t unblocked;
    before->sig = 0;
    if (sigaction(sig, NULL, &before->action) == 0 &&
        (drop_handler ? !pds_action_is(&before->action, SIG_DFL) : pds_action_is(&before->action, SIG_IGN))) {
        before->sig = sig;
        signal(sig, SIG_DFL);
    }
    sigemptyset(&unblocked);
    sigaddset(&unblocked, sig); /* it refuses 0 */
    sigaddset(&unblocked, carrier);
    pthread_sigmask(SIG_UNBLOCK, &unblocked, &before->mask);
}

void pds_restore_disposition(const struct disposition *before)
{
    if (before->sig != 0)
        sigaction(before->sig, &before->action, NULL);
    pthread_sigmask(SIG_SETMASK, &before->mask, NULL);
}

static bool has_default_action(int sig)
{
    struct sigaction action;
    return sigaction(sig, NULL, &action) == 0 && pds_action_is(&action, SIG_DFL);
}

void pds_deliver(int sig, int64_t grace_ns, const struct notice *notice)
{
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); /* write(2) is a cancellation point */
    if (grace_ns > 0)
        pds_grace_start(grace_ns);
    pds_thread_setting(0);
    pds_notice_write(notice);
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
