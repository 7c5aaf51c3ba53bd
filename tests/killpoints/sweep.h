/* Try one kill point: trace the driver and all that it starts up to the K-th system call boundary,
 * kill one of them there, and list what is left.
 *
 *     sweep K PID GATE
 *
 * PID is the driver, a child of this process that waits for the end of the pipe GATE. A boundary is
 * the entry or the exit of a system call of any thread or process, a birth, or an exec. The thread
 * at the boundary is held until the victim is dead. Then the tracer detaches from all. The traced
 * processes send marks: they call close(2) with impossible descriptors. With K = 0 no process is
 * killed, and the tool prints a letter for every boundary up to the end.
 *
 * The environment holds the rest.
 *
 * - VICTIM: "driver"; "thread": the thread that calls close(THREAD); "exec TEXT": the first process
 *   that has TEXT in its command line, or with ^TEXT at its beginning. Each "/" at the end means
 * the
 *   first child of that process.
 *
 * - THEN: what must happen when the victim is not the driver. "gone": all that the driver started
 *   ends. "lives": no process ends, and every leaf becomes ready. "any": either. Afterwards the
 *   driver is killed.
 *
 * - LEAVES: how many of the started processes call close(END), in addition to the driver.
 *
 * - BLIND, a TEXT: until the first process with such a command line has called getppid(2), it
 * cannot
 *   know its parent.
 *
 * - PATIENCE: the milliseconds within which all processes must die.
 *
 * The last line holds the findings: end, absent, blind, survivors, stopped, false-kill. */
#ifndef SWEEP_H
#define SWEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { BEGIN = -1001, END = -1002, THREAD = -1003 };
enum { TROUBLE = 4, DENIED = 8 }; /* exit statuses */

/* tasks.c: the traced threads and processes, and what they did */
struct task {
    pid_t tid, process, parent;
    bool dead, counts, listens;
    bool is_python, starting, armed; /* starting: it has not opened a file of pdeathsig yet */
    bool is_victim, may_ask;
    long call; /* the last system call that it entered */
};
extern pid_t driver;
extern bool counting, reached_end, blind;
struct task *task_of(pid_t tid);
bool note_stop(pid_t tid, int status); /* returns whether it is a boundary */
char letter(pid_t tid);                /* of a boundary: - no victim, b blind, s a Python is starting, . else */
void describe(pid_t tid, int status, char *text, size_t size);
struct task *find_victim(void);
void note_death(pid_t tid);
void interrupt_stopped(void); /* they stay stopped, but only after this can they be detached from */
bool all_leaves_are_ready(void);
bool child_was_born(void);
pid_t died_early(void); /* a started process that died; 0: none */

/* tracing.c: waiting for the traced threads, and resuming them */
int64_t now_ms(void);
pid_t next_stop(int *status, int64_t until); /* a thread that stopped or ended; 0: too late; -1: none is left */
void resume(pid_t tid, int status, bool traced);
bool is_entry(pid_t tid, int status);
bool end_thread(pid_t victim, pid_t held, int held_status);

/* survivors.c: the processes that are left behind */
bool all_gone_but_driver(int64_t until);
bool driver_is_quiet(void);
int end_survivors(const char *where, int *stopped);

#endif
