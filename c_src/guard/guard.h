/* pdeathsig-run, the guard: it starts a command. When the command ends, or the process that started
 * the guard, it ends everything below the command.
 *
 *   caller -- monitor -- reaper -- command -- ...
 *
 * The guard is two processes. The monitor is what the caller sees: it passes signals on, stops when
 * the command stops, and ends as the command ended. The reaper is the command's parent, and the
 * subreaper of everything below. It leads a session of its own, so that no kill of the caller's
 * group hits both. Each ends everything when the other dies: the reaper has a parent-death signal,
 * and the monitor is the next subreaper up.
 *
 *
 * The road of a signal
 *
 *   to the monitor           monitor: forward_signal() -> reaper: signal_command() -> command
 *   SIGCONT to the monitor   monitor: CONTINUE_COMMAND -> reaper: signal_command() -> command
 *   before the command is    note_early_signals() ------> reaper: signal_command() -> command
 *   request of the library   socket --------------------> reaper: signal_command() -> command
 *   key on the terminal      kernel, to the caller's group -------------------------> command
 *                            monitor: TERMINAL_SIGNAL --> reaper, for when the command has ended
 *
 * 1. Only the monitor knows where a signal comes from; only the reaper may translate it, in
 *    signal_command(). The monitor sends the number on as a real signal. SIGKILL would kill the
 *    reaper, SIGSTOP stop it, and it ignores SIGCHLD.
 *    (test_guard_signals.py: test_each_is_forwarded_once)
 * 2. Only signal_command() signals the command, until everything is ended; that is ending.c's.
 *    (test_guard_protocol.py: test_one_function_signals_the_command)
 * 3. A key on the terminal does not pass through the guard, so no option can translate it.
 *    (test_guard_terminal.py: test_a_key_reaches_the_command_once)
 * 4. The command may stop at any time, even between clone and exec: the reaper must not wait there.
 *    (test_guard_protocol.py: test_a_stop_between_clone_and_exec)
 * 5. A message has an si_code of its own, so that no signal that a user queues is taken for one.
 *    (test_guard_protocol.py: test_a_queued_value_is_no_message)
 * 6. Once the command runs, only the end of its work may end the guard: it may warn, but not fail.
 *    (test_faults.py)
 *
 *
 * The states of the reaper (enum phase)
 *
 *   RUNNING    the command runs        -> LINGERING  with --linger: it has ended, and others go on
 *                                      -> ASKED      it has ended, or a followed process has
 *   LINGERING  the monitor has exited  -> ASKED      a followed process has ended
 *   both                               -> ASKED      the time of --timeout is over
 *                                      -> KILLING    no process is left
 *   ASKED      all have had --signal   -> KILLING    the grace is over, or no process is left
 *   KILLING    all get SIGKILL; then the reaper ends as the command did
 *
 *   Any -> KILLING: the monitor has died; the library asks for SIGKILL; there is no grace to ASK
 *   with; or the command has ended, and the monitor gets SIGINT, SIGQUIT, SIGTERM or SIGHUP.
 *
 * The states of the command (enum child_state), as the reaper sees it
 *
 *   CHILD_RUNS     -> CHILD_STOPPED  COMMAND_STOPPED tells the monitor, which stops likewise
 *   CHILD_STOPPED  -> CHILD_RUNS     the monitor gets SIGCONT
 *   both           -> CHILD_ENDED    no more signals: its PID may be another's
 *
 * `stops` counts the stops, and COMMAND_STOPPED carries the count. When the monitor gets SIGCONT,
 * it sends the count back: CONTINUE_COMMAND, for the stop that it knew of. The command gets no
 * SIGCONT if it has stopped again since. Nor if it runs, and this is the first SIGCONT for that
 * stop (`stop_answered`): a shell's fg continues the whole group, the command too. */
#ifndef PDEATHSIG_GUARD_H
#define PDEATHSIG_GUARD_H

#include "../proc/proc.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit statuses, as of env(1) and timeout(1). */
enum { TIMED_OUT = 124, NOT_STARTED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };
enum { LAST_SIGNAL = 64 };
enum { CARRIER = LAST_SIGNAL }; /* SIGRTMAX: parent-death signal and messages of the guard */
enum { REAP_AT_ONCE = 256 };    /* a tree that grows fast must not delay all other work */
enum scope { SCOPE_TREE, SCOPE_GROUP, SCOPE_CHILD };

struct options {
    int sig;            /* what all get first */
    int64_t grace_ns;   /* from that to SIGKILL */
    int64_t timeout_ns; /* from the start of the command to that; 0: none */
    enum scope scope;
    pid_t parent; /* also followed; 0: none */
    uint64_t parent_start;
    int lifeline;           /* hangs up when the caller dies; -1: none */
    int control;            /* the library's socket; -1: none */
    const char *executable; /* NULL: what the command's name says */
    bool linger;            /* what the command leaves behind may live as long as the caller */
    bool verbose;           /* tell() writes */
    char **command;
};

struct limit {
    uint64_t soft, hard;
};

enum child_state { CHILD_RUNS, CHILD_STOPPED, CHILD_ENDED };

struct child {
    pid_t pid;
    enum child_state state;
    siginfo_t end;
};

/* Shared memory: how the command ended. A signal that carries it may find no room in the queue. */
struct command_end {
    siginfo_t end;
    bool is_told;
};

enum { FOLLOW_LIFELINE, FOLLOW_CALLER, FOLLOW_PARENT, FOLLOWED };

struct guard {
    struct options options;
    char **environment;
    char *executables; /* from the library, to try in turn; an empty one ends them; NULL: none */
    uint64_t mask;     /* what the command gets back */
    uint64_t early;    /* SIGINT and SIGQUIT that came before there was a command */
    bool sigchld_was_ignored, limit_was_raised;
    struct limit limit;
    pid_t caller, monitor, reaper;
    pid_t group;                     /* of the command, at first */
    pid_t session;                   /* of the monitor */
    int followed[FOLLOWED];          /* each readable when its process has ended; -1: none */
    bool caller_by_signal;           /* the monitor's parent-death signal follows the caller */
    int reaper_pipe[2];              /* the reaper alone holds its write end; -1: none */
    int stderr_fd;                   /* for warn(); -1: none */
    bool stderr_is_path;             /* O_PATH: it keeps no pipe open, and is to be opened anew */
    struct child child;              /* of the monitor: the reaper; of the reaper: the command */
    uint32_t stops;                  /* of the command; known to the reaper */
    struct command_end *command_end; /* NULL: what the command leaves behind ends with it */
};

/* A signal that has arrived, or is to be sent. Only with SI_QUEUE its value counts. */
struct signal {
    int number, code;
    pid_t sender;
    uint64_t value;
};

/* A line on stderr is made of parts; NULL ends them. */
#define PARTS(...)                                                                                                     \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
enum { NAME_SIZE = 64 }; /* for all names of a signal, a process or a duration */

/* options.c */
void read_options(struct guard *guard, char **arguments); /* exits if they are not good */
const char *name_signal(char *name, int sig);

/* follow.c */
void follow_processes(struct guard *guard);

/* messages.c */
enum message_kind {
    NO_MESSAGE,
    COMMAND_STOPPED,  /* to the monitor: with the signal, the PID and the count of stops */
    GAVE_UP,          /* to the monitor: some processes cannot be ended */
    CONTINUE_COMMAND, /* to the reaper: with the count of the stop that is over */
    TERMINAL_SIGNAL,  /* to the reaper: the terminal has signalled the caller's group */
    END_ALL,          /* to the reaper: the caller is gone */
};
struct message {
    enum message_kind kind;
    int sig;
    pid_t pid;
    uint32_t stop;
};
bool send_message(pid_t to, struct message message); /* false: there is no room */
struct message decode_message(const struct signal *signal, pid_t sender);
void forward_signal(pid_t to, const struct signal *signal);

void share_command_end(struct guard *guard);
void release_monitor(struct guard *guard);
bool monitor_is_released(const struct guard *guard);

enum report { STARTED = 1, EXEC_FAILED = 2, GUARD_FAILED = 3 };
bool report(const struct guard *guard, enum report what, int value); /* false: it cannot be told */
int read_request(const struct guard *guard); /* a signal for the command; 0: none; -1: no more */

/* ... and those that report a failure, to the library or on stderr, and exit: before the command
 * is started. */
_Noreturn void fail(const struct guard *guard, int error, const char *what);
void prctl_or_fail(const struct guard *guard, int option, long value);
long map_or_fail(const struct guard *guard, size_t size, int flags);

/* command.c */
void receive_executables(struct guard *guard);
void note_early_signals(struct guard *guard);
int start_command(struct guard *guard); /* hangs up at the exec; -1: it has been, or is unasked */
void signal_command(const struct guard *guard, const struct signal *signal);

/* monitor.c, reaper.c */
_Noreturn void be_monitor(struct guard *guard);
_Noreturn void be_reaper(struct guard *guard);

/* reap.c */
enum remaining { NONE_LEFT, SOME_LEFT, MORE_TO_REAP };
enum remaining reap_one(struct guard *guard, pid_t *pid); /* MORE_TO_REAP: *pid has ended */
enum remaining reap(struct guard *guard, void (*stopped_or_continued)(struct guard *guard, const siginfo_t *info));
bool is_our_child(pid_t pid);
bool has_ended(pid_t pid); /* a child of ours that is not reaped yet */
bool no_child_left(void);
bool all_children_live(void); /* and there are some */

/* generations.c */
void kill_generations(struct guard *guard);
void kill_groups(const struct guard *guard);

/* ending.c */
bool nothing_left(struct guard *guard);
void tell_what_is_left(struct guard *guard); /* with --verbose */
void ask_to_end(struct guard *guard, int64_t until);
int open_group_member(struct guard *guard); /* a pidfd of one that is no child of ours; -1 */
bool end_at_once(struct guard *guard);      /* false: some cannot be ended */

/* support.c */
uint64_t signal_bit(int sig);
uint64_t set_mask(uint64_t mask); /* returns the one before */
void set_default_action(int sig);
int64_t now_ns(void);
long open_descriptor(struct guard *guard, long n, long a, long b, long c, long d);
void close_all_but(const int *keep, int count);
void open_stderr(struct guard *guard, int from, bool hold);
void print_line(int fd, const char *const *parts);
void warn(const struct guard *guard, const char *const *parts);
void tell(const struct guard *guard, const char *const *parts); /* with --verbose */
const char *name_process(char *name, pid_t pid);                /* "sleep [123]" */
const char *name_command(char *name, const struct guard *guard);
const char *name_duration(char *name, int64_t ns);
const char *error_text(int error);
_Noreturn void exit_with(int status);
_Noreturn void exit_like(const siginfo_t *end);

#endif
