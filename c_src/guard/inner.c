/* The command's parent: waits for its end, for the death of those who asked for it, and for their requests; then ends
 * everything. */
#include "guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIGNALS, CONTROL, WATCHED, FOLLOWED, POLLED = FOLLOWED + 3 };

enum phase { RUNNING, LINGERING, ASKED, AT_ONCE };

struct inner {
    enum phase phase;
    int64_t until; /* when ASKED: the end of the grace */
    bool outer_may_be_stopped;
    enum left left;
    struct pollfd polled[POLLED];
};

static void tell_outer(struct guard *guard, const siginfo_t *info)
{
    if (info->si_pid != guard->child || guard->child_ended)
        return;
    guard->command_stopped = info->si_code == CLD_STOPPED;
    if (guard->command_stopped) {
        int word = STOP + (info->si_status << PID_BITS) + guard->child;
        if (!send_word(guard->outer, word, ++guard->stops))
            sys2(SYS_kill, guard->outer, SIGSTOP); /* no room to queue it */
    } else {
        sys2(SYS_kill, guard->outer, SIGCONT);
    }
}

/* The outer one got SIGCONT after that stop. If the command runs again, it was for the whole group, as from a shell's
 * `fg`; another would come late, and undo the next Ctrl-Z. */
static void continue_command(struct guard *guard, uint32_t stop)
{
    reap(guard, tell_outer);
    bool is_news = guard->command_stopped || guard->stop_answered == stop;
    if (guard->child_ended || stop != guard->stops)
        return;
    guard->stop_answered = stop;
    if (is_news)
        sys2(SYS_kill, guard->child, SIGCONT);
}

static void hear(struct guard *guard, struct inner *inner, const struct signalfd_siginfo *info)
{
    int sig = (int)info->ssi_signo;
    if (sig == NEWS && (pid_t)sys0(SYS_getppid) != guard->outer) {
        inner->phase = AT_ONCE;
        return;
    }
    bool no_info = info->ssi_pid == 0 && info->ssi_code == SI_USER; /* there was no room to queue it */
    if (sig == SIGCHLD || ((pid_t)info->ssi_pid != guard->outer && !no_info))
        return;
    const union sigval value = {.sival_ptr = (void *)(uintptr_t)info->ssi_ptr};
    const int word = sig == NEWS && info->ssi_code == SI_QUEUE ? word_in(value) : 0;
    if (word == CONTINUE) {
        continue_command(guard, number_in(value));
        return;
    }
    if ((word & ~63) == TERMINAL)
        sig = guard->child_ended ? SIGINT : 0;
    if (sig == 0)
        return;
    if (sig == NEWS && guard->by_signal && (no_info || word == END_ALL))
        inner->polled[FOLLOWED].revents = POLLIN;
    else if (!guard->child_ended)
        pass_on(guard->child, sig, info->ssi_code, value);
    else if (sig == SIGINT || sig == SIGQUIT || sig == SIGTERM || sig == SIGHUP)
        inner->phase = AT_ONCE; /* the command has it no more; and we should not linger */
}

/* Once in each turn: a flood of them is not to keep us from all else. */
static void hear_all(struct guard *guard, struct inner *inner)
{
    struct signalfd_siginfo info[8];
    long length = sys3(SYS_read, inner->polled[SIGNALS].fd, info, sizeof info);
    if (has_parted(guard))
        return;
    for (long i = 0; i < length / (long)sizeof *info; i++)
        hear(guard, inner, info + i);
}

static void take_request(struct guard *guard, struct inner *inner)
{
    int sig = read_request(guard);
    if (sig < 0)
        inner->polled[CONTROL].fd = -1; /* all that this tells: nobody will ask any more */
    else if (sig == SIGKILL)
        inner->phase = AT_ONCE;
    else if (sig > 0 && !guard->child_ended)
        sys2(SYS_kill, guard->child, sig);
    if (sig == SIGCONT)
        sys2(SYS_kill, guard->outer, SIGCONT); /* which may have been stopped alone */
}

static bool asked_by_death(const struct inner *inner)
{
    bool hit = false;
    for (int i = FOLLOWED; i < POLLED; i++)
        hit = hit || inner->polled[i].revents != 0;
    return hit;
}

static void wait_for_event(struct inner *inner)
{
    struct timespec left = {0, 0};
    if (inner->phase == ASKED && inner->left != MORE_TO_REAP) {
        int64_t ns = inner->until - now_ns();
        if (ns > 0)
            left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    }
    for (int i = 0; i < POLLED; i++)
        inner->polled[i].revents = 0;
    sys5(SYS_ppoll, inner->polled, POLLED, inner->phase == ASKED || inner->left == MORE_TO_REAP ? &left : NULL, NULL,
         sizeof(uint64_t));
}

static void begin_to_end(struct guard *guard, struct inner *inner)
{
    inner->outer_may_be_stopped = !guard->child_ended;
    for (int i = FOLLOWED; i < POLLED; i++)
        inner->polled[i].fd = -1;
    inner->phase = AT_ONCE;
    if (guard->options.sig != SIGKILL && guard->options.grace_ns > 0) {
        inner->phase = ASKED;
        inner->until = now_ns() + guard->options.grace_ns;
        ask_to_end(guard, inner->until);
    }
}

static void watch(struct guard *guard, struct inner *inner)
{
    if (inner->polled[WATCHED].fd >= 0)
        sys1(SYS_close, inner->polled[WATCHED].fd);
    inner->polled[WATCHED].fd = watch_one(guard);
}

static void linger(struct guard *guard, struct inner *inner)
{
    part(guard);
    inner->phase = LINGERING;
    inner->polled[CONTROL].fd = -1;
    const int keep[] = {inner->polled[SIGNALS].fd, guard->error_path, guard->followed[0], guard->followed[1],
                        guard->followed[2]};
    keep_only(keep, sizeof keep / sizeof *keep);
}

static void until_the_end(struct guard *guard, struct inner *inner)
{
    while (inner->phase != AT_ONCE) {
        wait_for_event(inner);
        if (inner->polled[SIGNALS].revents != 0)
            hear_all(guard, inner);
        if (inner->polled[CONTROL].revents != 0)
            take_request(guard, inner);
        inner->left = reap(guard, tell_outer);
        const bool asked = inner->phase < ASKED && asked_by_death(inner);
        if (inner->phase == RUNNING && !asked && may_part(guard))
            linger(guard, inner);
        if (asked || (inner->phase == RUNNING && guard->child_ended)) {
            if (inner->left == NOBODY)
                return;
            begin_to_end(guard, inner);
        }
        if (inner->phase == RUNNING || inner->phase == AT_ONCE)
            continue;
        if (nothing_left(guard) || (inner->phase == ASKED && now_ns() >= inner->until))
            return;
        watch(guard, inner);
    }
}

static void open_signals(struct guard *guard, struct inner *inner)
{
    const uint64_t all = ~(uint64_t)0;
    inner->polled[SIGNALS].fd =
        (int)with_room(guard, SYS_signalfd4, -1, (long)&all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void prepare(struct guard *guard, struct inner *inner)
{
    guard->inner = (pid_t)sys0(SYS_getpid);
    must_prctl(guard, PR_SET_PDEATHSIG, NEWS);
    if (sys0(SYS_getppid) != guard->outer)
        leave(NOT_STARTED);
    if (guard->options.scope != SCOPE_CHILD)
        must_prctl(guard, PR_SET_CHILD_SUBREAPER, 1);
    open_signals(guard, inner);
    if (inner->polled[SIGNALS].fd < 0 && inner->polled[SIGNALS].fd != -EMFILE)
        fail(guard, -inner->polled[SIGNALS].fd, "signalfd");
    inner->polled[CONTROL].fd = guard->options.control;
    inner->polled[WATCHED].fd = -1;
    for (int i = 0; i < 3; i++)
        inner->polled[FOLLOWED + i].fd = guard->followed[i];
    for (int i = 0; i < POLLED; i++)
        inner->polled[i].events = POLLIN;
}

void be_inner(struct guard *guard)
{
    struct inner inner = {.phase = RUNNING, .left = SOMEBODY};
    prepare(guard, &inner);
    start_command(guard);
    /* No mere group: as the parent of a member of the caller's group, in the same session, we would keep that from
     * being orphaned, and the kernel would hang up on all of it when we end (setpgid(2)). */
    sys0(SYS_setsid);
    sys3(SYS_setpriority, PRIO_PROCESS, 0, -20); /* if we may: among thousands that fork, there is little time for us */
    const int keep[] = {inner.polled[SIGNALS].fd, guard->options.control, guard->error_path, guard->pulse[1],
                        guard->followed[0],       guard->followed[1],     guard->followed[2]};
    keep_only(keep, sizeof keep / sizeof *keep);
    sys1(SYS_chdir, "/");
    if (inner.polled[SIGNALS].fd < 0)
        open_signals(guard, &inner); /* the command's descriptors were in the way, and are closed now */
    if (!report_started(guard))
        inner.phase = AT_ONCE; /* who asked would wait for ever */
    until_the_end(guard, &inner);
    inner.outer_may_be_stopped = inner.outer_may_be_stopped || !guard->child_ended;
    bool ended = end_at_once(guard);
    if (has_parted(guard))
        leave(0);
    if (!ended)
        send_word(guard->outer, GAVE_UP, 0);
    if (inner.outer_may_be_stopped)
        sys2(SYS_kill, guard->outer, SIGCONT);
    end_as(&guard->status);
}
