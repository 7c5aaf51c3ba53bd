/* The room that ends a tree of processes, or a process group, now.
 *
 * We are in another author's program. Its other threads may reap our children, and other tools
 * signal them, at any moment. So every signal goes by a pidfd, after a look at whether that is
 * still the process that was found. One descriptor at a time, as there may be thousands of
 * processes. Kernels before 5.3 have no pidfds: then by PID, just looked at. */
#ifndef PDEATHSIG_KILL_H
#define PDEATHSIG_KILL_H

#include "../base/base.h"
#include "../proc/proc.h"

#include <stdint.h>

static const int64_t MILLISECOND = 1000000;
#define FREEZE_PATIENCE (20 * MILLISECOND) /* with what waits in the kernel, or is in an exec */

/* victims.c: the list of processes to end, and a signal to one of them. */
int64_t pds_now(void);
struct timespec pds_timespec(int64_t ns);
int pds_pause(int64_t ns); /* < 0: a signal came */
struct pds_victim *pds_victim_find(const struct pds_ending *e, pid_t pid);
/* -ESRCH: it has ended. */
int pds_victim_read(const struct pds_victim *victim, struct process *process);
int pds_victim_send(struct pds_victim *victim, int sig);

/* freeze.c: stop all that belongs to the tree, so that none escapes; and let it go on. */
int pds_freeze(struct pds_ending *e, int sig);
void pds_thaw(struct pds_ending *e, bool stopped_before_too);

#endif
