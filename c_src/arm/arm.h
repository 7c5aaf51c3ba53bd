/* The room that arms: this process gets a signal when its parent *process* dies.
 *
 * The parts stand here from the lowest to the highest: each calls only those above it. */
#ifndef PDEATHSIG_ARM_H
#define PDEATHSIG_ARM_H

#include "../base/base.h"

#include <stddef.h>
#include <sys/prctl.h>

/* notice.c: one line on stderr. Async-signal-safe. */
enum { NOTICE_MAX = 256 };
struct notice {
    size_t length;
    char text[NOTICE_MAX];
};
void pds_notice_set(struct notice *notice, const char *text);
void pds_notice_remember_stderr(void);
void pds_notice_own_table(pid_t thread); /* its descriptor table has no stderr; 0: no such thread */
void pds_notice_write(const struct notice *notice);

/* grace.c: one POSIX timer that carries SIGKILL. */
int pds_grace_prepare(int carrier);
void pds_grace_start(int64_t grace_ns);        /* 0: cancel. Async-signal-safe */
bool pds_grace_expired(const siginfo_t *info); /* async-signal-safe */
void pds_grace_after_fork_in_child(void);

/* arming.c: what is armed. It is complete before it is published, and never changed after. */
struct arming {
    int sig;
    int64_t grace_ns;
    pid_t parent; /* -1: no parent-death signal */
    struct notice notice;
};
struct arming *pds_arming_fill(int sig, int64_t grace_ns, pid_t parent, const char *notice);
void pds_arming_publish(const struct arming *next); /* NULL: nothing is armed any more */
const struct arming *pds_arming_last(void);         /* the last one published, claimed or not */
const struct arming *pds_arming_now(void);          /* async-signal-safe; NULL: nothing is armed */
bool pds_arming_claim(const struct arming *arming); /* async-signal-safe; true: the caller delivers it */
bool pds_arming_was_claimed(void);

/* deliver.c */
struct disposition {
    int sig; /* its action was changed; 0: of none */
    struct sigaction action;
    sigset_t mask;
};
void pds_make_deliverable(int sig, int carrier, bool drop_handler, struct disposition *before);
void pds_restore_disposition(const struct disposition *before);
void pds_deliver(int sig, int64_t grace_ns, const struct notice *notice); /* async-signal-safe */

/* Set the calling thread's parent-death signal; with ASK: return it. Async-signal-safe. */
enum { ASK = -1 };
static inline int pds_thread_setting(int sig)
{
    int now = 0;
    int r = sig == ASK ? prctl(PR_GET_PDEATHSIG, &now) : prctl(PR_SET_PDEATHSIG, sig);
    return r < 0 ? -errno : now;
}

/* main_thread.c: the same on the main thread, which is asked by the carrier signal. */
int pds_main_thread_setting(int carrier, int sig);
void pds_main_thread_answer(void); /* async-signal-safe */
void pds_main_thread_after_fork_in_child(void);

/* carrier.c: the real-time signal that carries the parent's death, and questions to two threads. */
int pds_carrier(void);              /* its number; 0: none yet */
int pds_carrier_install(int avoid); /* returns the number that now has the handler */
void pds_carrier_use(int sig);
bool pds_carrier_is_handled(int sig);
int pds_carrier_handle_again(int sig);
void pds_carrier_give_back(int sig);

/* watcher.c: the watcher thread, which is started at the first need. */
int pds_watcher_setting(int sig); /* pds_thread_setting() on it */
pid_t pds_watcher_tid(void);
int pds_watcher_add(pid_t pid, const char *notice, const struct arming *arming);
bool pds_watcher_watches(pid_t pid, const struct arming *arming); /* false: dropped, or it has died */
void pds_watcher_keep_only(const struct arming *arming);          /* what is watched for it; NULL: nothing */
int pds_watcher_listen(int carrier);
void pds_watcher_counts(int *count, int *lost);
void pds_watcher_after_fork_in_child(void);

/* setting.c: the kernel's setting, on a thread that lasts. */
int pds_carrier_prepare(int avoid); /* afterwards there is a carrier other than this */
int pds_setting_hold(int sig);      /* 0: no setting */
void pds_setting_status(int *sig, int *holder);
void pds_setting_after_fork_in_child(void);

/* arm.c */
void pds_arm_after_fork_in_child(void);

#endif
