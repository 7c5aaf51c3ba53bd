/* What the C files share among themselves. */
#ifndef PDEATHSIG_INTERNAL_H
#define PDEATHSIG_INTERNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { NOTICE_MAX = 256 };

struct notice {
    size_t length;
    char text[NOTICE_MAX];
};

/* One arming, read by the signal handler: complete before it is published, never changed after. */
struct arming {
    int sig;
    int64_t grace_ns;
    pid_t parent; /* -1: no parent-death signal */
    struct notice notice;
};

/* failed.c: remember which call failed; returns -error. */
int pds_fail(int error, const char *call);

/* identity.c */
bool pds_orphaned(pid_t parent); /* async-signal-safe */
bool pds_parent_is_gone(void);
void pds_identity_before_fork(void);
void pds_identity_after_fork_in_child(void);

/* deliver.c: async-signal-safe, all of it. */
void pds_notice_set(struct notice *notice, const char *text);
void pds_notice_remember_stderr(void);
void pds_deliver(int sig, int64_t grace_ns, const struct notice *notice);

/* grace.c: one POSIX timer that carries SIGKILL. */
int pds_grace_prepare(int news);
void pds_grace_start(int64_t grace_ns); /* async-signal-safe */
void pds_grace_cancel(void);
bool pds_grace_expired(const siginfo_t *info); /* async-signal-safe */
void pds_grace_after_fork_in_child(void);

/* arm.c: whoever gets true delivers this arming; nobody else does, and it was what is armed. Async-signal-safe. */
bool pds_claim(struct arming *arming);
int pds_handle_again(int sig); /* if somebody has taken our handler for it away, and put none in its place */

/* keeper.c */
int pds_keeper_prctl(int news, int option, int value);
pid_t pds_keeper_tid(void);       /* once it runs */
int pds_keeper_lend_stderr(void); /* a descriptor of stderr for the calling thread; async-signal-safe */
int pds_keeper_watch(int news, pid_t pid, const char *notice, struct arming *arming); /* returns its descriptor */
bool pds_keeper_watches(int fd); /* false: dropped, or that process has died */
void pds_keeper_drop(int fd);
void pds_keeper_keep_only(int fd); /* -1: none */
int pds_keeper_listen(int news);
void pds_keeper_counts(int *count, int *lost);
void pds_keeper_after_fork_in_child(void);

#endif
