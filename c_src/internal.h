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

/* arm.c: the one who gets the arming delivers it; nobody gets it twice. */
struct arming *pds_claim(void);

/* keeper.c */
int pds_keeper_prctl(int news, int option, int value);
pid_t pds_keeper_tid(void);       /* once it runs */
int pds_keeper_lend_stderr(void); /* a descriptor of stderr for the calling thread; async-signal-safe */
int pds_keeper_watch(int news, pid_t pid, const char *notice); /* returns its descriptor */
int pds_keeper_drop(int fd);
int pds_keeper_keep_only(int fd); /* -1: none; returns how many are kept */
void pds_keeper_counts(int *count, int *lost);
void pds_keeper_after_fork_in_child(void);

#endif
