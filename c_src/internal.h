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
int pds_keeper_watch(int news, pid_t pid, const char *notice, struct arming *arming);
bool pds_keeper_watches(pid_t pid, const struct arming *arming); /* false: dropped, or that process has died */
void pds_keeper_drop(struct arming *arming);                     /* what is watched for that */
void pds_keeper_keep_only(struct arming *arming);                /* NULL: nothing */
int pds_keeper_listen(int news);
void pds_keeper_counts(int *count, int *lost);
void pds_keeper_after_fork_in_child(void);

/* For functions that run between vfork and exec: sanitizers keep books of the stack, which that child never unwinds. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

/* One spawn under way. The child reads it in our memory, or in its copy of that. */
enum { AFFINITY_MAX = 1024, CHILD_STACK = 16 * 1024 };
struct spawning {
    struct pds_spawn *s;
    char **executables, **argv, **envp;
    const char *cwd;
    const int *keep;
    const uint32_t *groups;
    const struct pds_posix *posix; /* NULL: as fork_exec does it */
    const struct pds_action *actions;
    long descriptors_max;
    pid_t parent;
    sigset_t mask;
    bool share_memory;
    bool handlers_dropped; /* by the kernel */
    int nice;
    bool renice;
    size_t affinity_size; /* in bytes; 0: as the creating thread has it */
    unsigned char affinity[AFFINITY_MAX];
    bool settled; /* written by a child in our memory: we resume when it has execed or ended (qemu-user has no vfork) */
    bool reported;      /* the same: it has said why it has not execed */
    const char *failed; /* written by a child that shares this memory: the call that failed, and its errno */
    int error;
};

/* posix_spawn.c: in the child. Returns when it could not become the program, with errno. */
void pds_become_by_posix_spawn(struct spawning *spawning);

/* spawn.c: start a program that gets s->sig when this *process* dies, whichever thread calls. Returns its PID when it
 * has execed, or could not and has said why on errpipe_write. executables: tried in turn. envp, cwd: NULL: ours. keep:
 * in ascending order; errpipe_write is among them, and is not inherited. */
int pds_spawn(struct pds_spawn *s, char **executables, char **argv, char **envp, const char *cwd, const int *keep,
              const uint32_t *groups);

/* ... returns the child's PID, once it has execed or ended. All signals are blocked. */
int pds_clone(struct spawning *spawning);

/* ... and what is before and after that, quietly. The mask is what the child is to have. */
struct quiet {
    sigset_t mask;
    int cancellable;
};
void pds_quiet(struct quiet *before);
void pds_loud(const struct quiet *before);
int pds_start(struct spawning *spawning);

/* ... and pieces of the child's path. */
void pds_child_close_from(const struct spawning *spawning, unsigned int first);
bool pds_child_bind(struct spawning *spawning);
bool pds_child_keep(const struct spawning *spawning);
bool pds_child_refused(struct spawning *spawning, int error, const char *call);
void pds_child_drop_handlers(const struct spawning *spawning);
void pds_child_exec(const struct spawning *spawning);
void pds_child_let_die_of(int sig);
void pds_child_take_place(const struct spawning *spawning);

/* owners.c: the same, by a permanent thread. */
int pds_owners_clone(struct spawning *spawning);
void pds_owners_after_fork_in_child(void);

/* place.c: a digest of what a child takes over from the thread that creates it. */
uint64_t pds_place(void);
bool pds_place_shared(pid_t thread); /* whether that thread of ours has our working directory and descriptor table */

/* system.c */
void pds_system_before_fork(void);
void pds_system_after_fork_in_parent(void);
void pds_system_after_fork_in_child(void);

/* lifeline.c */
int pds_lifeline_of_forker(void); /* in a forked child; -ENODATA: not asked for by pds_lifeline_for_forked */
int pds_lifeline_follow(int lifeline, int sig, bool group);
void pds_lifeline_before_fork(void);
void pds_lifeline_after_fork_in_parent(void);
void pds_lifeline_after_fork_in_child(void);

#endif
