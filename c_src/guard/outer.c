/* The process that the caller sees. It polls no descriptor: all it waits for are signals. */
#include "guard.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The terminal has sent it to the command's group as well; but a hangup to the leader of the session alone. */
static bool command_has_it(const struct guard *guard, const siginfo_t *info)
{
    if (info->si_pid == guard->inner && info->si_code <= 0)
        return true; /* the command has been continued */
    if (info->si_signo == SIGALRM || info->si_signo == SIGVTALRM || info->si_signo == SIGPROF)
        return false; /* of a timer that was set before we were started */
    bool alone = info->si_signo == SIGHUP || info->si_signo == SIGCONT;
    return info->si_code > 0 && !(alone && sys1(SYS_getsid, 0) == guard->outer);
}

static bool is_stopped(pid_t pid)
{
    struct process process;
    if (process_read(pid, &process) < 0)
        return sys2(SYS_kill, pid, 0) != -ESRCH; /* believed */
    return process.state == 'T';
}

static long take_pending(uint64_t set, siginfo_t *info)
{
    const struct timespec at_once = {0, 0};
    return sys4(SYS_rt_sigtimedwait, &set, info, &at_once, sizeof set);
}

/* As the command has: the shell that waits for us is to see it. It may have been continued since, and the SIGCONT that
 * says so may be behind us: so we look again when the signal is pending, which any later SIGCONT takes back. */
static void stop_self(const struct guard *guard, int word)
{
    int sig = word >> PID_BITS & 63;
    pid_t command = word & ((1 << PID_BITS) - 1);
    if (!is_stopped(command))
        return;
    if (sig != SIGSTOP)
        set_default(sig);
    sys2(SYS_kill, guard->outer, sig);
    if (is_stopped(command)) {
        set_mask(~bit(sig));
        set_mask(~(uint64_t)0);
    } else {
        take_pending(bit(sig), NULL);
    }
}

static void inner_was_stopped(struct guard *guard, const siginfo_t *info)
{
    if (info->si_pid == guard->inner && info->si_code == CLD_STOPPED)
        sys2(SYS_kill, guard->inner, SIGCONT);
}

static bool is_word(const struct guard *guard, const siginfo_t *info)
{
    return info->si_signo == NEWS && info->si_code == SI_QUEUE && info->si_pid == guard->inner;
}

/* Returns the one word that asks for more: STOP. */
static int note_word(struct guard *guard, const siginfo_t *info)
{
    int word = word_in(info->si_value);
    if (word == GAVE_UP)
        guard->gave_up = true;
    if (word == GAVE_UP || !(word & STOP))
        return 0;
    guard->stops = number_in(info->si_value);
    return word;
}

static void note_pending_words(struct guard *guard)
{
    siginfo_t info;
    while (take_pending(bit(NEWS), &info) > 0) {
        if (is_word(guard, &info))
            note_word(guard, &info);
    }
}

/* For the inner one to say which stop it ends: one that came since, as by another Ctrl-Z, is to stay. */
static void pass_on_continue(struct guard *guard, const siginfo_t *info)
{
    note_pending_words(guard);
    if (!send_word(guard->inner, CONTINUE, guard->stops))
        pass_on(guard->inner, SIGCONT, info->si_code, info->si_value);
}

static bool caller_is_gone(const struct guard *guard, const siginfo_t *info)
{
    return guard->caller == 0 ? info->si_pid == 0 : sys0(SYS_getppid) != guard->caller;
}

static void end_all(const struct guard *guard)
{
    if (!send_word(guard->inner, END_ALL, 0))
        sys2(SYS_kill, guard->inner, NEWS);
}

static void take(struct guard *guard, const siginfo_t *info)
{
    int sig = info->si_signo;
    if (is_word(guard, info)) {
        int word = note_word(guard, info);
        if (word != 0)
            stop_self(guard, word);
    } else if (sig == NEWS && guard->by_signal && caller_is_gone(guard, info))
        end_all(guard);
    else if (sig == NEWS && guard->by_signal && info->si_code == SI_USER && info->si_pid == guard->caller)
        return; /* a thread of the caller's has ended */
    else if (sig == SIGCONT && !command_has_it(guard, info))
        pass_on_continue(guard, info);
    else if (!command_has_it(guard, info))
        pass_on(guard->inner, sig, info->si_code, info->si_value);
    else if (sig == SIGINT || sig == SIGQUIT || sig == SIGHUP)
        send_word(guard->inner, TERMINAL + sig, 0);
}

/* Stopped, as the command is, we would not notice the inner one's death, and nobody would end the rest. So the kernel
 * continues us when the pipe hangs up (fcntl(2), F_SETSIG). */
static void be_continued_when_inner_dies(const struct guard *guard)
{
    const int fd = guard->pulse[0];
    if (fd < 0)
        return;
    sys3(SYS_fcntl, fd, F_SETSIG, SIGCONT);
    sys3(SYS_fcntl, fd, F_SETOWN, guard->outer);
    sys3(SYS_fcntl, fd, F_SETFL, O_ASYNC | O_NONBLOCK);
}

void be_outer(struct guard *guard)
{
    const uint64_t all = ~(uint64_t)0;
    siginfo_t info;
    guard->child = guard->inner;
    const int keep[] = {guard->error_path, guard->pulse[0]};
    be_continued_when_inner_dies(guard);
    keep_only(keep, sizeof keep / sizeof *keep);
    sys1(SYS_chdir, "/");
    while (!guard->child_ended && !has_parted(guard)) {
        info.si_signo = 0;
        long sig = sys4(SYS_rt_sigtimedwait, &all, &info, NULL, sizeof all);
        if (sig == SIGCHLD) {
            while (reap(guard, inner_was_stopped) == MORE_TO_REAP && !guard->child_ended)
                ;
        } else if (sig > 0)
            take(guard, &info);
    }
    while (reap(guard, NULL) == MORE_TO_REAP)
        ;
    const bool parted = has_parted(guard);
    note_pending_words(guard);
    if (guard->child_ended && !guard->gave_up)
        end_at_once(guard); /* nobody is left, unless the inner one was killed */
    end_as(parted ? &guard->parting->status : &guard->status);
}
