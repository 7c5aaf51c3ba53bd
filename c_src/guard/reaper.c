/* The command's parent: waits for the command's end, for the end of the followed processes, and for
 * requests; then ends everything. */
#include "guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIGNALS, CONTROL, EXECUTED, MEMBER, FIRST_FOLLOWED, POLLED = FIRST_FOLLOWED + FOLLOWED };

/* In this order: see guard.h. */
enum phase { RUNNING, LINGERING, ASKED, KILLING };

struct reaper {
    enum phase phase;
    int64_t grace_over;     /* when ASKED */
    int64_t time_over;      /* of --timeout; 0: never */
    uint32_t stop_answered; /* the last stop of the command for which a SIGCONT has come */
    bool monitor_may_be_stopped;
    bool followed_ended;
    bool timed_out; /* while the command ran */
    enum remaining remaining;
    struct pollfd polled[POLLED];
};

static bool is_asked_to_end(int sig)
{
    return sig == SIGINT || sig == SIGQUIT || sig == SIGTERM || sig == SIGHUP;
}

/* Of the command: stopped or continued. */
static void tell_monitor(struct guard *guard, const siginfo_t *info)
{
    struct child *command = &guard->child;
    if (info->si_pid != command->pid || command->state == CHILD_ENDED)
        return;
    if (info->si_code == CLD_STOPPED) {
        command->state = CHILD_STOPPED;
        const struct message message = {COMMAND_STOPPED, info->si_status, command->pid, ++guard->stops};
        if (!send_message(guard->monitor, message))
            sys2(SYS_kill, guard->monitor, SIGSTOP);
    } else {
        command->state = CHILD_RUNS;
        sys2(SYS_kill, guard->monitor, SIGCONT);
    }
}

/* The monitor got SIGCONT after that stop. A command that runs again has had it too, with the whole
 * group, as from a shell's fg: another one would come late, and undo the next Ctrl-Z. */
static void continue_command(struct guard *guard, struct reaper *reaper, uint32_t stop)
{
    reap(guard, tell_monitor);
    const bool needs_it = guard->child.state == CHILD_STOPPED || reaper->stop_answered == stop;
    if (stop != guard->stops)
        return;
    reaper->stop_answered = stop;
    if (needs_it)
        signal_command(guard, &(struct signal){.number = SIGCONT});
}

static void handle_signal(struct guard *guard, struct reaper *reaper, const struct signal *signal)
{
    const bool no_sender = signal->sender == 0 && signal->code == SI_USER; /* the queue was full */
    const struct message message = decode_message(signal, guard->monitor);
    if (signal->number == CARRIER && (pid_t)sys0(SYS_getppid) != guard->monitor) {
        reaper->phase = KILLING;
        return;
    }
    if (signal->number == SIGCHLD || (signal->sender != guard->monitor && !no_sender))
        return;
    switch (message.kind) {
    case CONTINUE_COMMAND:
        continue_command(guard, reaper, message.stop);
        return;
    case END_ALL: /* only then does the monitor send it; the same user could forge it */
        reaper->followed_ended = reaper->followed_ended || guard->caller_by_signal;
        return;
    case TERMINAL_SIGNAL:
        if (guard->child.state == CHILD_ENDED)
            reaper->phase = KILLING;
        return;
    case NO_MESSAGE:
        break;
    default:
        return;
    }
    if (signal->number == CARRIER && guard->caller_by_signal && no_sender)
        reaper->followed_ended = true; /* END_ALL, for which there was no room */
    else if (guard->child.state != CHILD_ENDED)
        signal_command(guard, signal);
    else if (is_asked_to_end(signal->number))
        reaper->phase = KILLING; /* the caller does not want to wait for the rest */
}

/* A few in each turn: a flood of them must not delay all other work. */
static void handle_signals(struct guard *guard, struct reaper *reaper)
{
    struct signalfd_siginfo info[8];
    long length = sys3(SYS_read, reaper->polled[SIGNALS].fd, info, sizeof info);
    if (guard->monitor == 0)
        return;
    for (long i = 0; i < length / (long)sizeof *info; i++) {
        const struct signal signal = {(int)info[i].ssi_signo, info[i].ssi_code, (pid_t)info[i].ssi_pid,
                                      info[i].ssi_ptr};
        handle_signal(guard, reaper, &signal);
    }
}

static void handle_request(struct guard *guard, struct reaper *reaper)
{
    int sig = read_request(guard);
    if (sig < 0)
        reaper->polled[CONTROL].fd = -1; /* no sign of the caller's end: a descriptor follows it */
    else if (sig == SIGKILL)
        reaper->phase = KILLING;
    else if (sig > 0)
        signal_command(guard, &(struct signal){.number = sig});
    if (sig == SIGCONT)
        sys2(SYS_kill, guard->monitor, SIGCONT); /* which may have been stopped alone */
}

/* Once. */
static void report_started(const struct guard *guard, struct reaper *reaper)
{
    if (reaper->polled[EXECUTED].fd >= 0)
        sys1(SYS_close, reaper->polled[EXECUTED].fd);
    reaper->polled[EXECUTED].fd = -1;
    if (!report(guard, STARTED, guard->child.pid))
        reaper->phase = KILLING; /* the library would wait for ever */
}

static void wait_for_event(struct reaper *reaper)
{
    const bool at_once = reaper->remaining == MORE_TO_REAP;
    const int64_t until = reaper->phase == ASKED ? reaper->grace_over : reaper->time_over;
    struct timespec timeout = {0, 0};
    if (until != 0 && !at_once) {
        int64_t ns = until - now_ns();
        if (ns > 0)
            timeout = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    }
    for (int i = 0; i < POLLED; i++)
        reaper->polled[i].revents = 0;
    sys5(SYS_ppoll, reaper->polled, POLLED, until != 0 || at_once ? &timeout : NULL, NULL, sizeof(uint64_t));
    for (int i = FIRST_FOLLOWED; i < POLLED; i++)
        reaper->followed_ended = reaper->followed_ended || reaper->polled[i].revents != 0;
}

static void begin_to_end(struct guard *guard, struct reaper *reaper)
{
    reaper->monitor_may_be_stopped = guard->child.state != CHILD_ENDED;
    for (int i = FIRST_FOLLOWED; i < POLLED; i++)
        reaper->polled[i].fd = -1;
    reaper->phase = KILLING;
    if (reaper->remaining != NONE_LEFT && guard->options.sig != SIGKILL && guard->options.grace_ns > 0) {
        reaper->phase = ASKED;
        reaper->grace_over = now_ns() + guard->options.grace_ns;
        ask_to_end(guard, reaper->grace_over);
    }
}

/* No SIGCHLD tells that a member of the group has ended that is no child of ours. */
static void watch_group_member(struct guard *guard, struct reaper *reaper)
{
    if (reaper->polled[MEMBER].fd >= 0)
        sys1(SYS_close, reaper->polled[MEMBER].fd);
    reaper->polled[MEMBER].fd = open_group_member(guard);
}

static void linger(struct guard *guard, struct reaper *reaper)
{
    release_monitor(guard);
    reaper->phase = LINGERING;
    reaper->polled[CONTROL].fd = -1;
    tell(guard, PARTS("waiting for the caller's end: what is left may live until then"));
    open_stderr(guard, guard->stderr_fd, false);
    const int keep[] = {reaper->polled[SIGNALS].fd, guard->stderr_fd, guard->followed[0], guard->followed[1],
                        guard->followed[2]};
    close_all_but(keep, sizeof keep / sizeof *keep);
}

static void tell_start(const struct guard *guard)
{
    char command[NAME_SIZE], caller[NAME_SIZE], parent[NAME_SIZE];
    const pid_t other = guard->options.parent == guard->caller ? 0 : guard->options.parent;
    if (guard->options.verbose)
        tell(guard,
             PARTS("started ", name_command(command, guard), "; waiting for its end, or the end of ",
                   name_process(caller, guard->caller), other == 0 ? NULL : " or ", name_process(parent, other)));
}

static void tell_command_end(const struct guard *guard)
{
    char command[NAME_SIZE], how[NAME_SIZE];
    const bool exited = guard->child.end.si_code == CLD_EXITED;
    if (exited)
        add_number(how, (uint64_t)guard->child.end.si_status);
    else
        name_signal(how, guard->child.end.si_status);
    tell(guard, PARTS(name_command(command, guard), exited ? " has ended: exit status " : " has ended: ", how));
}

static void tell_why(const struct guard *guard, const struct reaper *reaper)
{
    char name[NAME_SIZE];
    const bool parent = reaper->polled[FIRST_FOLLOWED + FOLLOW_PARENT].revents != 0;
    if (!reaper->followed_ended)
        tell(guard, PARTS("the time of --timeout is over"));
    else
        tell(guard, PARTS(name_process(name, parent ? guard->options.parent : guard->caller), " has ended"));
}

static void change_phase(struct guard *guard, struct reaper *reaper)
{
    const bool command_ended = reaper->phase == RUNNING && guard->child.state == CHILD_ENDED;
    const bool time_is_over = reaper->time_over != 0 && now_ns() >= reaper->time_over;
    if (command_ended && guard->options.verbose)
        tell_command_end(guard);
    if (reaper->phase < ASKED && (reaper->followed_ended || time_is_over)) {
        reaper->timed_out = reaper->phase == RUNNING && !command_ended && !reaper->followed_ended;
        if (guard->options.verbose)
            tell_why(guard, reaper);
        begin_to_end(guard, reaper);
    } else if (command_ended && guard->command_end != NULL && !nothing_left(guard))
        linger(guard, reaper);
    else if (command_ended)
        begin_to_end(guard, reaper);
    if (reaper->phase != LINGERING && reaper->phase != ASKED)
        return;
    if (nothing_left(guard) || (reaper->phase == ASKED && now_ns() >= reaper->grace_over))
        reaper->phase = KILLING;
    else
        watch_group_member(guard, reaper);
}

static void wait_until_killing(struct guard *guard, struct reaper *reaper)
{
    while (reaper->phase != KILLING) {
        wait_for_event(reaper);
        if (reaper->polled[SIGNALS].revents != 0)
            handle_signals(guard, reaper);
        if (reaper->polled[CONTROL].revents != 0)
            handle_request(guard, reaper);
        reaper->remaining = reap(guard, tell_monitor);
        if (reaper->polled[EXECUTED].revents != 0 ||
            (reaper->polled[EXECUTED].fd >= 0 && guard->child.state == CHILD_ENDED))
            report_started(guard, reaper);
        change_phase(guard, reaper);
    }
}

static void open_signals(struct guard *guard, struct reaper *reaper)
{
    const uint64_t all = ~(uint64_t)0;
    reaper->polled[SIGNALS].fd =
        (int)open_descriptor(guard, SYS_signalfd4, -1, (long)&all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void prepare(struct guard *guard, struct reaper *reaper)
{
    guard->reaper = (pid_t)sys0(SYS_getpid);
    prctl_or_fail(guard, PR_SET_PDEATHSIG, CARRIER);
    if (sys0(SYS_getppid) != guard->monitor)
        exit_with(NOT_STARTED);
    if (guard->options.scope != SCOPE_CHILD)
        prctl_or_fail(guard, PR_SET_CHILD_SUBREAPER, 1);
    open_signals(guard, reaper);
    if (reaper->polled[SIGNALS].fd < 0 && reaper->polled[SIGNALS].fd != -EMFILE)
        fail(guard, -reaper->polled[SIGNALS].fd, "signalfd");
    reaper->polled[CONTROL].fd = guard->options.control;
    reaper->polled[MEMBER].fd = -1;
    for (int i = 0; i < FOLLOWED; i++)
        reaper->polled[FIRST_FOLLOWED + i].fd = guard->followed[i];
    for (int i = 0; i < POLLED; i++)
        reaper->polled[i].events = POLLIN;
}

/* To a session, as a group would not do: as the parent of a member of the caller's group in the
 * same session, the reaper would keep that group from being orphaned, and its own exit would hang
 * up on all of it (setpgid(2)). But the parent of a command that leads a group of its own stays in
 * the session: SIGTSTP and SIGTTIN do not stop an orphaned group. */
static void leave_group(const struct guard *guard)
{
    if (guard->group == guard->child.pid && guard->session != guard->monitor)
        sys2(SYS_setpgid, 0, 0);
    else
        sys0(SYS_setsid);
}

void be_reaper(struct guard *guard)
{
    struct reaper reaper = {.phase = RUNNING, .remaining = SOME_LEFT};
    prepare(guard, &reaper);
    if (guard->options.timeout_ns > 0)
        reaper.time_over = now_ns() + guard->options.timeout_ns;
    reaper.polled[EXECUTED].fd = start_command(guard);
    tell_start(guard);
    leave_group(guard);
    sys3(SYS_setpriority, PRIO_PROCESS, 0, -20); /* if permitted: a fork bomb leaves little time */
    const int keep[] = {reaper.polled[SIGNALS].fd, guard->options.control, reaper.polled[EXECUTED].fd,
                        guard->stderr_fd,          guard->reaper_pipe[1],  guard->followed[0],
                        guard->followed[1],        guard->followed[2]};
    close_all_but(keep, sizeof keep / sizeof *keep);
    sys1(SYS_chdir, "/");
    if (reaper.polled[SIGNALS].fd < 0)
        open_signals(guard, &reaper); /* the command's descriptors took all the room until now */
    if (reaper.polled[EXECUTED].fd < 0)
        report_started(guard, &reaper);
    wait_until_killing(guard, &reaper);
    reaper.monitor_may_be_stopped = reaper.monitor_may_be_stopped || guard->child.state != CHILD_ENDED;
    tell_what_is_left(guard);
    bool ended = end_at_once(guard);
    if (guard->monitor == 0)
        exit_with(0);
    if (!ended)
        send_message(guard->monitor, (struct message){.kind = GAVE_UP});
    if (reaper.monitor_may_be_stopped)
        sys2(SYS_kill, guard->monitor, SIGCONT);
    if (reaper.timed_out)
        exit_with(TIMED_OUT);
    exit_like(&guard->child.end);
}
