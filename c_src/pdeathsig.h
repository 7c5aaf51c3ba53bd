/* The C functions that Python may call. build_ffi.py gives this file to cffi as it is, less its # lines.
 *
 * Contract: the result is >= 0, or -errno; then pds_failed_call() names the system call that failed, and
 * nothing has changed: what was armed before is still armed, what was not is not. All of them may be called
 * from any thread. */
#ifndef PDEATHSIG_H
#define PDEATHSIG_H

#include <stdint.h>

enum { PDS_NONE = 0, PDS_PROCESS = 1, PDS_THREAD = 2, PDS_WATCH = 4 };
enum { PDS_SEEN_AT_LOAD = 0, PDS_FORKED_BY = 1 };

struct pds_status {
    int mechanism;    /* PDS_NONE, PDS_PROCESS or PDS_THREAD, | PDS_WATCH when pidfds are watched too */
    int fired;        /* the parent's death was seen, and sig delivered to this process */
    int sig;          /* the signal number this process gets when its parent dies */
    int64_t grace_ns; /* from sig to SIGKILL, in nanoseconds; 0: no SIGKILL follows */
    int parent;       /* the parent's PID as saved at arming; 0: outside this PID namespace */
    int news;         /* the real-time signal that carries the news; 0: never armed that way */
    int news_handled; /* its handler is (still) ours */
    int holder;       /* thread ID of the thread that holds the kernel's setting; 0: none */
    int kernel_sig;   /* what PR_GET_PDEATHSIG says on that thread; -1: it could not be asked */
    int watched;      /* number of processes watched by pidfd */
    int watched_lost; /* ... whose descriptor somebody closed */
};

/* Register the at-fork handlers and note who our parent is. Idempotent. */
int pds_init(void);

/* The name of the call that failed last on this thread, such as "prctl". */
const char *pds_failed_call(void);

/* Who our parent should be: the PID of the process that forked us, if this code was loaded in it; else
 * getppid() when this code was loaded. 0: a process outside our PID namespace. */
int pds_parent(void);

/* Whether the thread that forked us was its process's main thread, which lasts as long as that. */
int pds_forked_on_main(void);

/* How pds_parent() is known: PDS_SEEN_AT_LOAD or PDS_FORKED_BY. */
int pds_parent_source(void);

/* Whether our parent's credentials let the kernel send us its parent-death signal. 0 also where /proc does not say. */
int pds_parent_may_signal(void);

/* Process semantics: deliver sig to this process when the process `parent` (a PID) dies, and SIGKILL grace_ns
 * later (0: never). notice is the line for stderr before that; empty: none.
 *   parent: by parent-death signal, so it must be our parent; 0: ours, outside our PID namespace; -1: nobody.
 *   watch: by pidfd, so it may be any process; 0: none. watch_notice is its line.
 * If one of them is already gone, sig is delivered before this returns. */
int pds_arm(int sig, int64_t grace_ns, int parent, const char *notice, int watch, const char *watch_notice);

/* The kernel's own semantics: sig, when the thread that created us exits. Returns 1 if our parent is already
 * gone: the caller then says so and calls pds_die(). */
int pds_arm_thread(int sig);

/* The same on the calling thread, between fork and exec: async-signal-safe, no locks. What is armed in this copy of
 * the parent's memory is forgotten, and a handler for sig dropped. */
int pds_preexec(int sig);

/* Deliver what is armed now, as if the parent had died, with this line. Returns 0 if nothing is armed. */
int pds_fire(const char *notice);

/* Write the line, deliver sig to this process; where the kernel will not (PID 1 of a namespace), _exit(128 + sig).
 * Returns when a handler of the program took the signal. */
int pds_die(int sig, const char *notice);

/* Nothing is armed afterwards, and a SIGKILL already under way is called off. */
int pds_disarm(void);

/* PDS_NONE, PDS_PROCESS, PDS_THREAD or PDS_WATCH. */
int pds_armed(void);

int pds_status(struct pds_status *out);

#endif
