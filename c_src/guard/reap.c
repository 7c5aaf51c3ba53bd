/* Which children have ended: all that waitid(2) tells. */
#include "guard.h"

#include <sys/wait.h>

static void note_end(struct guard *guard, const siginfo_t *info)
{
    struct child *child = &guard->child;
    if (info->si_pid == child->pid && child->state != CHILD_ENDED) { /* its PID may be another's */
        child->state = CHILD_ENDED;
        child->end = *info;
    }
}

static enum remaining wait_for_change(int what, siginfo_t *info)
{
    info->si_pid = 0;
    long r = sys5(SYS_waitid, P_ALL, 0, info, what | WEXITED | WNOHANG, NULL);
    if (r == -ECHILD)
        return NONE_LEFT;
    return r < 0 || info->si_pid == 0 ? SOME_LEFT : MORE_TO_REAP;
}

enum remaining reap_one(struct guard *guard, pid_t *pid)
{
    siginfo_t info;
    enum remaining remaining = wait_for_change(0, &info);
    if (remaining == MORE_TO_REAP)
        note_end(guard, &info);
    *pid = info.si_pid;
    return remaining;
}

enum remaining reap(struct guard *guard, void (*stopped_or_continued)(struct guard *guard, const siginfo_t *info))
{
    for (int i = 0; i < REAP_AT_ONCE; i++) {
        siginfo_t info;
        enum remaining remaining = wait_for_change(stopped_or_continued != NULL ? WSTOPPED | WCONTINUED : 0, &info);
        if (remaining != MORE_TO_REAP)
            return remaining;
        if (info.si_code == CLD_STOPPED || info.si_code == CLD_CONTINUED)
            stopped_or_continued(guard, &info);
        else
            note_end(guard, &info);
    }
    return MORE_TO_REAP;
}

bool is_our_child(pid_t pid)
{
    return sys5(SYS_waitid, P_PID, pid, NULL, WEXITED | WNOHANG | WNOWAIT, NULL) == 0;
}

bool has_ended(pid_t pid)
{
    siginfo_t info;
    info.si_pid = 0;
    return sys5(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0 && info.si_pid == pid;
}

bool no_child_left(void)
{
    siginfo_t info;
    return wait_for_change(WNOWAIT, &info) == NONE_LEFT;
}

bool all_children_live(void)
{
    siginfo_t info;
    return wait_for_change(WNOWAIT, &info) == SOME_LEFT;
}
