/* The C functions that Python may call. build_ffi.py gives this file to cffi, less its # lines.
 *
 * Contract: the result is >= 0, or -errno. Then pds_failed_call() names the system call that
 * failed, and nothing has changed: what was armed is still armed, what was not is not. All of them
 * may be called from any thread. */
#ifndef PDEATHSIG_H
#define PDEATHSIG_H

#include <stdint.h>

/* init.c: register the at-fork handlers, and note the parent. Idempotent. */
int pds_init(void);

/* The name of the call that failed last on this thread, such as "prctl". */
const char *pds_failed_call(void);

/* ---- base/: the parent ---- */

enum { PDS_SEEN_AT_LOAD = 0, PDS_FORKED_BY = 1 };

/* The PID of the process that forked us, if this code was loaded in it; else getppid() when this
 * code was loaded. 0: a process outside our PID namespace. */
int pds_parent(void);

/* How pds_parent() is known: PDS_SEEN_AT_LOAD or PDS_FORKED_BY. */
int pds_parent_source(void);

/* Whether the thread that forked us was its process's main thread, which lasts as long as it. */
int pds_forked_on_main(void);

/* Whether our parent's credentials let the kernel send us its parent-death signal. 0 also where
 * /proc does not say. */
int pds_parent_may_signal(void);

/* ---- arm/ ---- */

enum { PDS_NONE = 0, PDS_PROCESS = 1, PDS_THREAD = 2, PDS_WATCH = 4 };

struct pds_status {
    int mechanism;       /* PDS_NONE, PDS_PROCESS or PDS_THREAD, | PDS_WATCH when pidfds are watched too */
    int delivered;       /* the parent's death was seen, and sig delivered to this process */
    int sig;             /* the signal number this process gets when its parent dies */
    int64_t grace_ns;    /* from sig to SIGKILL, in nanoseconds; 0: no SIGKILL follows */
    int parent;          /* the parent's PID as saved at arming; 0: outside this PID namespace */
    int carrier;         /* the carrier signal: a real-time signal; 0: never armed that way */
    int carrier_handled; /* its handler is (still) ours */
    int holder;          /* thread ID of the thread that holds the kernel's setting; 0: none */
    int kernel_sig;      /* what PR_GET_PDEATHSIG says on that thread; -1: it could not be asked */
    int watched;         /* number of processes watched by pidfd */
    int watched_lost;    /* ... of those that lost their descriptor to the program */
};

/* Process semantics: deliver sig to this process when the process `parent` (a PID) dies, and
 * SIGKILL grace_ns later (0: never). notice is the line for stderr before that; empty: none.
 *   parent: by parent-death signal, so it must be our parent. 0: ours, outside our PID namespace;
 * -1: none.
 *   watches: by pidfd, so they may be any processes, `count` of them. watch_notices are their
 * lines, which follow each other. If one of them is already gone, sig is delivered before this
 * returns. */
int pds_arm(int sig, int64_t grace_ns, int parent, const char *notice, const int *watches, int count,
            const char *watch_notices);

/* The kernel's own semantics: sig, when the thread that created us exits. Returns 1 if our parent
 * is already gone: the caller then says so and calls pds_die(). */
int pds_arm_thread(int sig);

/* The same on the calling thread, between fork and exec: async-signal-safe, no locks. What is armed
 * in this copy of the parent's memory is forgotten, and a handler for sig dropped. sig 0: what the
 * caller has set is taken back. */
int pds_preexec(int sig);

/* Deliver what is armed, as if the parent had died, with this line. 0: nothing is armed. */
int pds_deliver_now(const char *notice);

/* Write the line, deliver sig to this process. Where the kernel will not (PID 1 of a namespace),
 * _exit(128 + sig). Returns when a handler of the program took the signal. */
int pds_die(int sig, const char *notice);

/* Nothing is armed afterwards, and a SIGKILL already under way is called off. */
int pds_disarm(void);

/* PDS_NONE, PDS_PROCESS, PDS_THREAD or PDS_WATCH. */
int pds_armed(void);

int pds_status(struct pds_status *out);

/* Right before an exec, which ends the handler. In a child that fork made, where children are to
 * arm themselves, sig is from now on what holds. That is by the kernel's setting,
 * if that process's main thread forked us. Else, or where the exec makes the kernel forget that, it
 * is by a lifeline. Where nothing of that kind is armed, nothing changes. Returns 1 if our parent
 * has died meanwhile. */
int pds_exec_begins(int sig);

/* The exec has failed: what pds_exec_begins has done to the signal is undone. Arm again. */
int pds_exec_failed(void);

/* ---- base/: the lifeline ---- */

/* A new descriptor, close-on-exec, that hangs up when this process dies or execs. */
int pds_lifeline(void);

/* In the child, which gets sig when it hangs up; with group all of its process group do. Returns 1
 * if it has already. Async-signal-safe. */
int pds_lifeline_hold(int lifeline, int sig, int group);

/* From now on children of fork get a lifeline, where pds_exec_begins will need it. */
void pds_lifeline_for_forked(int wanted);

/* ---- spawn/ ---- */

/* The program to start, in the terms of CPython's _posixsubprocess.fork_exec. */
struct pds_spawn {
    char **executables;  /* tried in turn; up to a NULL, as the next two */
    char **argv, **envp; /* envp NULL: our environment */
    const char *cwd;     /* NULL: ours */
    int *keep;           /* the descriptors that the program inherits, in ascending order; among them
                            errpipe_write, which it does not */
    uint32_t *groups;
    int keep_count;
    int groups_count; /* -1: ours */

    int p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite; /* -1: none */

    int errpipe_read, errpipe_write;
    int close_fds, restore_signals, new_session;
    int process_group; /* -1: ours; 0: its own */
    int64_t uid, gid;  /* -1: ours */
    int umask;         /* -1: ours */
    int share_memory;  /* as vfork does, where that is safe */
    int says_chdir;    /* subprocess.Popen knows the message "noexec:chdir" */
    int threads;       /* other threads may fork meanwhile, and with that inherit errpipe_write */
    int sig;           /* what the child gets when this process dies */
    int lifeline;      /* from pds_lifeline(), and among those to keep; -1: none */
    int group;         /* whether that ends all of the child's process group, or the child alone */
    int pid;           /* written: the child's, as soon as there is one */
};

enum { PDS_OPEN = 0, PDS_CLOSE = 1, PDS_DUP2 = 2, PDS_CLOSE_FROM = 3 };
struct pds_action {
    int what, fd;
    int to;           /* PDS_DUP2 */
    int flags, mode;  /* PDS_OPEN */
    const char *path; /* PDS_OPEN */
};

/* What posix_spawn(3) has, and fork_exec has not. */
struct pds_posix {
    const struct pds_action *actions;
    int actions_count;
    int reset_ids;
    int scheduling;       /* not ours: */
    int policy, priority; /* sched_setscheduler(2); -1: our policy */
    int set_mask;
    uint64_t mask, defaults; /* sets of signals: bit 0 is signal 1 */
    int as_execvp;           /* the executables are tried as by execvp(3), else as by os.execvp */
    int exits;               /* a child that cannot exec ends with status 127, else in an error */
};

/* posix_spawn(3). The child gets s->sig when this *process* dies, whichever thread calls. Of s
 * counts what posix_spawn knows too: new_session, process_group, and of descriptors the lifeline,
 * which is the only one to keep. Where the call that failed is "posix_spawn" or "clone", the error
 * is one that posix_spawn(3) has. */
int pds_posix_spawn(struct pds_spawn *s, const struct pds_posix *posix);

/* system(3) by pds_posix_spawn: waits, and returns the wait status. */
int pds_system(struct pds_spawn *s);

/* ---- kill/ ---- */

/* What is known of a process to end. */
enum {
    PDS_WAS_STOPPED = 1, /* not by us */
    PDS_FROZEN = 2,      /* by us, at the moment */
    PDS_SIGNALLED = 4,
    PDS_KILLED = 8,   /* later, by SIGKILL */
    PDS_REFUSED = 16, /* we may not signal it */
    PDS_TRACKER = 32, /* a resource tracker: it comes last */
    PDS_GONE = 64,
    PDS_BLOCKS = 128, /* it seems to block the signal always */
};

struct pds_victim {
    uint64_t start; /* as in proc_pid_stat(5) */
    int pid;
    int known;
    int pass; /* the last walk that found it */
    int top;  /* whether walks begin there */
};

/* Zeroed by the caller. */
struct pds_ending {
    int group; /* a process group; 0: the processes added, and all below */
    int pass;
    struct pds_victim *list; /* those above come before those below */
    uint32_t *index;         /* of a PID in the list, from 1 */
    uint32_t count, capacity;
};

/* Without a group: the top of the tree. */
int pds_ending_add(struct pds_ending *e, int pid, uint64_t start);

/* Find and freeze all that belongs to it by now, send sig to all of them but resource trackers, and
 * let them go on. Of each that got it, `known` says so: PDS_SIGNALLED or PDS_KILLED. When this
 * returns, for whatever reason, none is frozen. */
int pds_ending_signal(struct pds_ending *e, int sig, int known);

/* Wait for the end of all but resource trackers, or with trackers for theirs too, so many
 * nanoseconds at most, or until a signal comes. Those that may not be signalled are not waited for.
 * Returns 1 when all are gone. */
int pds_ending_wait(struct pds_ending *e, int64_t ns, int trackers);

/* SIGKILL to the resource trackers that are left. */
void pds_ending_kill_trackers(struct pds_ending *e);

void pds_ending_free(struct pds_ending *e);

#endif
