/* The guard: a program that starts a command and lets nothing below it outlive it, nor the process that asked for it.
 *
 * It is two processes. The outer one is what the caller sees: it passes signals on, stops when the command stops, ends
 * as the command ended. The inner one is the command's parent, and the reaper of all that is below; it leads a session
 * of its own, so that no kill of the caller's group takes both. Each ends everything when the other dies: the inner one
 * is told by its parent-death signal, the outer one is the next reaper up.
 *
 *   caller - outer - inner - command - ...
 *
 * With --linger, when the command has ended and others go on, the outer one ends as the command did, and the inner one
 * stays their reaper until they or the caller are gone.
 *
 * Rules of this house: no libc (sys.h); once the command runs, nothing may end the guard but the end of its work: it
 * may warn, never bail out. */
#ifndef PDEATHSIG_GUARD_H
#define PDEATHSIG_GUARD_H

#include "../proc/proc.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { NOT_STARTED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 }; /* exit statuses, as of env(1) and timeout(1) */
enum { REAP_AT_ONCE = 256 }; /* who is born and dies faster than we reap is not to keep us from all else */
enum { NEWS = 64 };          /* SIGRTMAX: parent-death signal of the guard's own, and word between its two */
/* Words. To the inner one: END_ALL; CONTINUE, with the number of the stop that is over; TERMINAL + a signal that the
 * terminal sent to the whole group. To the outer one: GAVE_UP, with those that cannot be ended; with the number of the
 * stop, STOP + (signal << PID_BITS) + the command's PID, which has stopped. */
enum { PID_BITS = 22, STOP = 1 << 28, TERMINAL = 1 << 29, END_ALL = 1 << 30, GAVE_UP, CONTINUE };
enum scope { SCOPE_TREE, SCOPE_GROUP, SCOPE_CHILD };

struct options {
    int sig;          /* what everybody gets first */
    int64_t grace_ns; /* from that to SIGKILL */
    enum scope scope;
    pid_t parent; /* also followed; 0: none */
    uint64_t parent_start;
    int lifeline;           /* hangs up when the caller dies; -1: none */
    int control;            /* a socket of the library's; -1: none */
    const char *executable; /* NULL: what the command's name says */
    bool linger;            /* what the command leaves behind may live as long as the caller */
    char **command;
};

struct limit {
    uint64_t soft, hard;
};

/* From the inner one to the outer one, in memory that both have: a word of that length may find no room. */
struct parting {
    siginfo_t status; /* of the command */
    bool said;
};

struct guard {
    struct options options;
    char **environment;
    char *executables; /* from the library: what to try, one string after the other, then an empty one; NULL: none */
    uint64_t mask;     /* what the command gets back */
    uint64_t early;    /* a Ctrl-C or Ctrl-\\ that came before there was a command */
    bool sigchld_was_ignored, limit_was_raised;
    struct limit limit;
    pid_t caller, outer, inner, group, session; /* the last two: of the command, at first */
    uint32_t stops;                             /* of the command, as far as known */
    uint32_t stop_answered;                     /* the last one for which a SIGCONT has come */
    bool command_stopped;
    int followed[3]; /* each readable, or hung up, when the process that it follows is dead; -1: none */
    bool by_signal;  /* there is no descriptor to follow the caller by: the outer one has a parent-death signal */
    int pulse[2];    /* a pipe: the inner one alone holds its write end; -1: none */
    int error_path;  /* stderr, in a way that keeps no pipe open (O_PATH); -1: none */
    pid_t child;     /* of the inner one: the command; of the outer one: the inner one, which ends as that did */
    bool child_ended, gave_up;
    siginfo_t status;
    struct parting *parting; /* NULL: what the command leaves behind ends with it */
};

/* options.c: ends the program if they are not good. */
void read_options(struct guard *guard, char **arguments);

/* say.c */
void say(int fd, const char *a, const char *b, const char *c, const char *d);
_Noreturn void fail(const struct guard *guard, int error, const char *what); /* before the command is started */
void must_prctl(const struct guard *guard, int option, long value);          /* or fail */
void warn(const struct guard *guard, const char *a, const char *b, const char *c, const char *d);
const char *error_text(int error);

/* signals.c */
uint64_t bit(int sig);
uint64_t set_mask(uint64_t mask); /* returns the one before */
void set_default(int sig);
void pass_on(pid_t pid, int sig, int code, union sigval value);
bool send_word(pid_t pid, int word, uint32_t number); /* false: there is no room */
int word_in(union sigval value);
uint32_t number_in(union sigval value);
void note_early(struct guard *guard);
_Noreturn void leave(int status);
_Noreturn void end_as(const siginfo_t *status);

/* descriptors.c */
long with_room(struct guard *guard, long n, long a, long b, long c, long d); /* a call that makes a descriptor */
void set_close_on_exec(int fd);
void keep_only(const int *keep, int count);

/* follow.c */
void follow_those_who_asked(struct guard *guard);
bool asker_is_gone(const struct guard *guard);

/* command.c */
void receive_executables(struct guard *guard);
void start_command(struct guard *guard);

/* control.c: to the library and from it */
enum { EXEC_FAILED = 2, GUARD_FAILED = 3 };
bool report_started(const struct guard *guard);                      /* false: it cannot be told */
void report_failure(const struct guard *guard, int what, int error); /* EXEC or GUARD */
int read_request(const struct guard *guard); /* a signal for the command; 0: none; -1: nobody is there any more */

/* outer.c, inner.c */
_Noreturn void be_outer(struct guard *guard);
_Noreturn void be_inner(struct guard *guard);

/* generations.c */
void kill_generations(struct guard *guard);
void kill_groups(const struct guard *guard);

/* parting.c: the command has ended, and some that it started go on. */
void allow_parting(struct guard *guard);
bool may_part(struct guard *guard);
void part(struct guard *guard); /* the inner one: it lingers, alone */
bool has_parted(const struct guard *guard);

/* ending.c */
int reap_one(struct guard *guard, pid_t *pid); /* > 0: *pid; 0: none has ended; < 0: none is left */
int64_t now_ns(void);
enum left { NOBODY, SOMEBODY, MORE_TO_REAP };
enum left reap(struct guard *guard, void (*stopped_or_continued)(struct guard *guard, const siginfo_t *info));
bool nothing_left(struct guard *guard);
void ask_to_end(struct guard *guard, int64_t until);
int watch_one(struct guard *guard);    /* a pidfd of somebody we wait for and are not told of; -1: nobody */
bool end_at_once(struct guard *guard); /* false: some cannot be ended */

#endif
