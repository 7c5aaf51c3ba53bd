/* The room that starts programs: each child gets a signal when this *process* dies, whichever
 * thread of it started the child.
 *
 * The parts stand here from the lowest to the highest: each calls only those above it. */
#ifndef PDEATHSIG_SPAWN_H
#define PDEATHSIG_SPAWN_H

#include "../base/base.h"

enum { CPUS_MAX = 8192, CHILD_STACK = 16 * 1024 };

/* One program being started. The child reads it in our memory, or in its copy of that. */
struct spawning {
    struct pds_spawn *s;
    void (*become)(struct spawning *spawning);        /* in the child: execs, or returns */
    void (*started)(const struct spawning *spawning); /* in the parent, signals held; NULL: nothing */
    const struct pds_posix *posix;                    /* NULL: as fork_exec does it */
    long descriptors_max;
    pid_t parent;
    uint64_t defaults; /* signals that are not to stay ignored: bit 0 is signal 1 */
    bool mask_given;   /* else the calling thread's */
    sigset_t mask;
    bool share_memory;
    bool handlers_dropped; /* by the kernel */
    int nice;
    bool renice;
    size_t affinity_size; /* in bytes; 0: as the creating thread has it */
    unsigned long affinity[CPUS_MAX / 8 / sizeof(unsigned long)];

    /* Written by a child that shares this memory. */
    bool settled;       /* we resume when it has execed or ended (qemu-user has no vfork) */
    bool reported;      /* it has said on errpipe_write why it has not execed */
    const char *failed; /* the call that failed, and its errno */
    int error;
};

/* child.c: see there for the rules. Those that return bool: false, with errno, if a call failed. */
void pds_child_close_from(const struct spawning *spawning, unsigned int first);
bool pds_child_duplicate(int fd, int to); /* it is inherited then, also onto itself */
bool pds_child_keep(const struct pds_spawn *s);
void pds_child_begin(const struct spawning *spawning);
bool pds_child_take_group(const struct pds_spawn *s);
bool pds_child_fail(struct spawning *spawning, int error, const char *call);
bool pds_child_bind(struct spawning *spawning);
void pds_child_exec(const struct spawning *spawning);

/* clone.c: returns the child's PID, once it has execed or ended. */
int pds_clone(struct spawning *spawning);

/* thread_attributes.c: a digest of what a child takes over from the thread that creates it. */
uint64_t pds_thread_attributes(void);
bool pds_thread_shares_files(pid_t thread); /* our working directory and descriptor table */

/* spawner_threads.c: pds_clone() by a thread that lasts. */
int pds_spawner_threads_clone(struct spawning *spawning);
void pds_spawner_threads_after_fork_in_child(void);

/* start.c: pds_clone() by the right thread, while signals are held; reaps a child that failed. */
int pds_start(struct spawning *spawning);

/* fork_exec.c: start a program that gets s->sig when this *process* dies, whichever thread calls.
 * Returns its PID when it has execed, or could not and has said why on errpipe_write. */
int pds_spawn(struct pds_spawn *s);

/* system.c */
void pds_system_after_fork_in_child(void);

#endif
