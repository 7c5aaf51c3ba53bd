/* The process that the caller sees. It polls no descriptor: all it waits for are signals. */
#include "guard.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t ALL_SIGNALS = ~(uint64_t)0;

struct monitor {
    uint32_t stop; /* the last stop of the command that the reaper has told of */
    bool reaper_gave_up;
};

/* timeout NULL: as long as it takes. Returns the signal's number, or -errno. */
static long wait_for_signal(uint64_t set, struct signal *signal, const struct timespec *timeout)
{
    siginfo_t info;
    long sig = sys4(SYS_rt_sigtimedwait, &set, &info, timeout, sizeof set);
    if (sig > 0)
        *signal = (struct signal){(int)sig, info.si_code, info.si_pid, (uintptr_t)info.si_value.sival_ptr};
    return sig;
}

static bool take_pending(int sig, struct signal *signal)
{
    const struct timespec at_once = {0, 0};
    return wait_for_signal(signal_bit(sig), signal, &at_once) > 0;
}

/* The terminal signals the command's group as well. But it sends SIGHUP, with SIGCONT, to the
 * session's leader alone, which may be the monitor. */
static bool command_has_it(const struct guard *guard, const struct signal *signal)
{
    const int sig = signal->number;
    if (signal->sender == guard->reaper && signal->code <= 0)
        return true; /* SIGCONT: the command has been continued */
    if (sig == SIGALRM || sig == SIGVTALRM || sig == SIGPROF)
        return false; /* of a timer that was set before the guard's exec, so it is the command's */
    bool leader_only = sig == SIGHUP || sig == SIGCONT;
    return signal->code > 0 && !(leader_only && sys1(SYS_getsid, 0) == guard->monitor);
}

static bool is_stopped(pid_t pid)
{
    struct process process;
    if (process_read(pid, &process) < 0)
        return sys2(SYS_kill, pid, 0) != -ESRCH; /* the message is believed */
    return process.state == 'T';
}

/* As the command has, for the shell that waits for the monitor. The command may have been continued
 * since, and the reaper's SIGCONT may have come before this stop. So look again when the stop
 * signal is pending: any later SIGCONT takes it back. */
static void stop_like_command(const struct guard *guard, const struct message *message)
{
    const int sig = message->sig;
    struct signal ignored;
    if (sig < 1 || sig > LAST_SIGNAL || !is_stopped(message->pid))
        return;
    if (sig != SIGSTOP)
        set_default_action(sig);
    sys2(SYS_kill, guard->monitor, sig);
    if (is_stopped(message->pid)) {
        set_mask(~signal_bit(sig));
        set_mask(ALL_SIGNALS);
    } else {
        take_pending(sig, &ignored);
    }
}

static void note_message(struct monitor *monitor, const struct message *message)
{
    if (message->kind == GAVE_UP)
        monitor->reaper_gave_up = true;
    if (message->kind == COMMAND_STOPPED)
        monitor->stop = message->stop;
}

static void note_pending_messages(const struct guard *guard, struct monitor *monitor)
{
    struct signal signal;
    while (take_pending(CARRIER, &signal)) {
        const struct message message = decode_message(&signal, guard->reaper);
        note_message(monitor, &message);
    }
}

/* It says which stop is over: one that came since, as by another Ctrl-Z, is to last. */
static void continue_command(const struct guard *guard, struct monitor *monitor, const struct signal *signal)
{
    note_pending_messages(guard, monitor);
    if (!send_message(guard->reaper, (struct message){.kind = CONTINUE_COMMAND, .stop = monitor->stop}))
        forward_signal(guard->reaper, signal);
}

/* A caller outside the PID namespace has no number to compare: without a sender, it is the kernel's
 * signal. */
static bool caller_is_gone(const struct guard *guard, const struct signal *signal)
{
    return guard->caller == 0 ? signal->sender == 0 : sys0(SYS_getppid) != guard->caller;
}

static void handle_signal(const struct guard *guard, struct monitor *monitor, const struct signal *signal)
{
    const int sig = signal->number;
    const bool by_signal = sig == CARRIER && guard->caller_by_signal;
    const struct message message = decode_message(signal, guard->reaper);
    note_message(monitor, &message);
    if (message.kind == COMMAND_STOPPED) {
        stop_like_command(guard, &message);
    } else if (message.kind != NO_MESSAGE) {
        return;
    } else if (by_signal && caller_is_gone(guard, signal)) {
        if (!send_message(guard->reaper, (struct message){.kind = END_ALL}))
            sys2(SYS_kill, guard->reaper, CARRIER);
    } else if (by_signal && signal->code == SI_USER && signal->sender == guard->caller) {
        return; /* a thread of the caller has ended */
    } else if (command_has_it(guard, signal)) {
        if (sig == SIGINT || sig == SIGQUIT || sig == SIGHUP)
            send_message(guard->reaper, (struct message){.kind = TERMINAL_SIGNAL, .sig = sig});
    } else if (sig == SIGCONT) {
        continue_command(guard, monitor, signal);
    } else {
        forward_signal(guard->reaper, signal); /* untranslated: guard.h, rule 1 */
    }
}

/* While stopped, as the command is, the monitor would not notice the reaper's death, and the rest
 * would never end. So the kernel continues it when the pipe hangs up (fcntl(2), F_SETSIG). */
static void be_continued_when_reaper_dies(const struct guard *guard)
{
    const int fd = guard->reaper_pipe[0];
    if (fd < 0)
        return;
    sys3(SYS_fcntl, fd, F_SETSIG, SIGCONT);
    sys3(SYS_fcntl, fd, F_SETOWN, guard->monitor);
    sys3(SYS_fcntl, fd, F_SETFL, O_ASYNC | O_NONBLOCK);
}

static void continue_reaper(struct guard *guard, const siginfo_t *info)
{
    if (info->si_pid == guard->reaper && info->si_code == CLD_STOPPED)
        sys2(SYS_kill, guard->reaper, SIGCONT);
}

void be_monitor(struct guard *guard)
{
    struct monitor monitor = {0};
    guard->child.pid = guard->reaper;
    const int keep[] = {guard->stderr_fd, guard->reaper_pipe[0]};
    be_continued_when_reaper_dies(guard);
    close_all_but(keep, sizeof keep / sizeof *keep);
    sys1(SYS_chdir, "/");
    while (guard->child.state != CHILD_ENDED && !monitor_is_released(guard)) {
        struct signal signal;
        long sig = wait_for_signal(ALL_SIGNALS, &signal, NULL);
        if (sig == SIGCHLD) {
            while (reap(guard, continue_reaper) == MORE_TO_REAP && guard->child.state != CHILD_ENDED)
                ;
        } else if (sig > 0)
            handle_signal(guard, &monitor, &signal);
    }
    while (reap(guard, NULL) == MORE_TO_REAP)
        ;
    const bool released = monitor_is_released(guard);
    note_pending_messages(guard, &monitor);
    if (guard->child.state == CHILD_ENDED && !monitor.reaper_gave_up)
        end_at_once(guard); /* something is left only if the reaper was killed */
    exit_like(released ? &guard->command_end->end : &guard->child.end);
}
