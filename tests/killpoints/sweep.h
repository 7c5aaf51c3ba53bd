/* One kill point: let a process, the driver, and all that it starts run up to the K-th system call boundary, kill one
 * of them there, and see who is left.
 *
 *     sweep K PID GATE
 *
 * PID is the driver, a child of ours that waits for the end of the pipe GATE. A boundary is the entry or the exit of a
 * system call of any thread or process, the birth of one, or an exec. Whoever is at the boundary is held until the
 * victim is dead; then we trace nobody any more. What the processes tell us, they tell by close(2) of impossible
 * descriptors. K = 0: nobody is killed; a letter for every boundary up to the end.
 *
 * The environment says more.
 *
 * - VICTIM: "driver"; "thread": the one that calls close(THREAD); "exec TEXT": the first whose command line has that
 *   TEXT, with ^ before it: begins with it. Each "/" behind it: the first child of that one.
 *
 * - THEN, what must happen when the victim is not the driver: "gone": all that the driver has started ends; "lives":
 *   nobody ends, and every leaf gets there; "any": either. The driver is killed afterwards.
 *
 * - LEAVES: how many of those that are started at last call close(END), in addition to the driver.
 *
 * - BLIND, a TEXT: until the first such process has asked for its parent, nobody can know who that was.
 *
 * - PATIENCE: milliseconds in which everybody must have died.
 *
 * The last line says what was seen, in words: end, absent, blind, survivors, stopped, false-kill. */
#ifndef SWEEP_H
#define SWEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { BEGIN = -1001, END = -1002, THREAD = -1003 };
enum { TROUBLE = 4, DENIED = 8 }; /* exit statuses */

/* seen.c: who is there, and what they do */
struct task {
    pid_t tid, process, parent;
    bool dead, counts, listens;
    bool is_python, starting, armed; /* starting: it is not in our code */
    bool is_victim, may_ask;
    long call; /* the last one that it entered */
};
extern pid_t driver;
extern bool counting, reached_end, blind;
struct task *task_of(pid_t tid);
bool is_boundary(pid_t tid, int status); /* takes notice of what it sees */
char letter(pid_t tid); /* of a boundary: - without a victim, b while blind, s where a Python is starting, . */
void describe(pid_t tid, int status, char *text, size_t size);
struct task *find_victim(void);
void note_death(pid_t tid);
void wake_the_stopped(void); /* they stay stopped, but let us let them go */
bool all_leaves_are_there(void);
bool child_was_born(void);
pid_t died_early(void); /* somebody other than the driver; 0: nobody */

/* tracing.c: to stop and to go on */
int64_t now_ms(void);
pid_t next(int *status, int64_t until); /* that has stopped or ended; 0: nobody did in time; -1: nobody is left */
void let_go_on(pid_t tid, int status, bool traced);
bool is_entry(pid_t tid, int status);
bool end_thread(pid_t victim, pid_t held, int held_status);

/* left.c: who is left behind */
bool all_gone_but_driver(int64_t until);
bool driver_is_quiet(void);
int end_survivors(const char *where, int *stopped);

#endif
