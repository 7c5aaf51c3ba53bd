/* Arm this process, disarm it, and say what is armed. */
#include "arm.h"

#include <string.h>

static int mechanism, armed_sig; /* under the lock */

/* The processes to watch, and the line of each: strings that follow each other. */
struct watches {
    const int *pids;
    int count;
    const char *notices;
};

/* One that is gone already is found by gone_already(), as if it had died just after. */
static int watch_all(const struct watches *watches, const struct arming *next)
{
    const char *notice = watches->notices;
    for (int i = 0; i < watches->count; i++) {
        int r = pds_watcher_add(watches->pids[i], notice, next);
        if (r < 0 && r != -ESRCH)
            return r;
        notice += strlen(notice) + 1;
    }
    return 0;
}

/* The line of one that has died; NULL: all live. */
static const char *gone_already(const struct watches *watches, const struct arming *now)
{
    const char *notice = watches->notices;
    for (int i = 0; i < watches->count; i++) {
        if (!pds_watcher_watches(watches->pids[i], now))
            return notice;
        notice += strlen(notice) + 1;
    }
    return NULL;
}

static int prepare(const struct arming *next, const struct watches *watches)
{
    int r = pds_carrier_prepare(next->sig);
    if (r >= 0 && next->grace_ns > 0)
        r = pds_grace_prepare(pds_carrier());
    return r < 0 ? r : watch_all(watches, next);
}

/* The kernel's setting first, then what it is to mean. Until that is published, a death delivers
 * what was armed before, and a failure has nothing to take back. */
static int change_to(int next_mechanism, int sig, int kernel_sig, const struct arming *next)
{
    struct disposition before;
    pds_make_deliverable(sig, next != NULL ? pds_carrier() : 0, false, &before);
    int r = pds_setting_hold(kernel_sig);
    if (r < 0) {
        pds_restore_disposition(&before);
        return r;
    }
    pds_carrier_give_back(sig);
    if (next != NULL)
        pds_notice_remember_stderr();
    pds_arming_publish(next);
    pds_watcher_keep_only(next);
    mechanism = next_mechanism;
    armed_sig = sig;
    return 0;
}

/* The check for a death that was missed comes last, and delivers after the lock is released. */
int pds_arm(int sig, int64_t grace_ns, int parent, const char *notice, const int *pids, int count,
            const char *watch_notices)
{
    const struct watches watches = {pids, count, watch_notices};
    struct notice final_notice;
    bool gone = false, by_kernel = parent >= 0;
    pthread_mutex_lock(&pds_lock);
    struct arming *next = pds_arming_fill(sig, grace_ns, parent, notice);
    int r = prepare(next, &watches);
    if (r >= 0)
        r = change_to(by_kernel ? PDS_PROCESS : PDS_WATCH, sig, by_kernel ? pds_carrier() : 0, next);
    if (r < 0) {
        const char *call = pds_failed_call();
        pds_watcher_keep_only(pds_arming_last());
        pds_fail(-r, call);
    } else {
        const char *line = gone_already(&watches, next);
        gone = (line != NULL || (parent > 0 && pds_orphaned(parent))) && pds_arming_claim(next);
        pds_notice_set(&final_notice, line != NULL ? line : notice);
    }
    pthread_mutex_unlock(&pds_lock);
    if (gone)
        pds_deliver(sig, grace_ns, &final_notice);
    return r;
}

int pds_arm_thread(int sig)
{
    pthread_mutex_lock(&pds_lock);
    int r = sig == pds_carrier() ? pds_carrier_prepare(sig) : 0;
    if (r >= 0)
        r = change_to(PDS_THREAD, sig, sig, NULL);
    pthread_mutex_unlock(&pds_lock);
    return r < 0 ? r : pds_parent_is_gone();
}

int pds_armed(void)
{
    return pds_arming_was_claimed() ? PDS_NONE : mechanism;
}

int pds_deliver_now(const char *text)
{
    const struct arming *now = pds_arming_now();
    struct notice notice;
    if (!pds_arming_claim(now))
        return 0;
    pds_notice_set(&notice, text);
    pds_deliver(now->sig, now->grace_ns, &notice);
    return 1;
}

int pds_disarm(void)
{
    pthread_mutex_lock(&pds_lock);
    int r = pds_setting_hold(0);
    if (r >= 0) {
        pds_arming_publish(NULL);
        pds_grace_start(0);
        pds_watcher_keep_only(NULL);
        mechanism = PDS_NONE;
    }
    pthread_mutex_unlock(&pds_lock);
    return r;
}

int pds_status(struct pds_status *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&pds_lock);
    pds_watcher_counts(&out->watched, &out->watched_lost);
    out->delivered = pds_arming_was_claimed();
    out->mechanism = mechanism | (out->watched + out->watched_lost > 0 ? PDS_WATCH : 0);
    out->sig = armed_sig;
    out->parent = pds_parent();
    if (mechanism == PDS_PROCESS || mechanism == PDS_WATCH) {
        const struct arming *last = pds_arming_last();
        out->grace_ns = last->grace_ns;
        out->parent = last->parent;
        out->carrier = pds_carrier();
        out->carrier_handled = pds_carrier_is_handled(out->carrier);
    }
    pds_setting_status(&out->kernel_sig, &out->holder);
    pthread_mutex_unlock(&pds_lock);
    return 0;
}

/* The kernel arms no child of fork, so nothing is armed here either. The handler stays. */
void pds_arm_after_fork_in_child(void)
{
    pds_arming_publish(NULL);
    mechanism = PDS_NONE;
    pds_main_thread_after_fork_in_child();
    pds_setting_after_fork_in_child();
    pds_grace_after_fork_in_child();
    pds_watcher_after_fork_in_child();
}
