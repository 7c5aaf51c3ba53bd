/* Signals, and the two ways to end. */
#include "guard.h"

#include <sys/prctl.h>
#include <sys/resource.h>

uint64_t bit(int sig)
{
    return (uint64_t)1 << (sig - 1);
}

uint64_t set_mask(uint64_t mask)
{
    uint64_t before = 0;
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof mask);
    return before;
}

void set_default(int sig)
{
    unsigned long action[8] = {0};
    sys4(SYS_rt_sigaction, sig, action, NULL, sizeof(uint64_t));
}

/* With the value that sigqueue(3) sent along. The kernel lets nobody else's kill(2) be imitated, nor is there need. */
void pass_on(pid_t pid, int sig, int code, union sigval value)
{
    siginfo_t info = {.si_signo = sig, .si_code = SI_QUEUE};
    info.si_pid = (pid_t)sys0(SYS_getpid);
    info.si_uid = (uid_t)sys0(SYS_getuid);
    info.si_value = value;
    if (code != SI_QUEUE || sys3(SYS_rt_sigqueueinfo, pid, sig, &info) < 0)
        sys2(SYS_kill, pid, sig);
}

bool send_word(pid_t pid, int word, uint32_t number)
{
    siginfo_t info = {.si_signo = NEWS, .si_code = SI_QUEUE};
    info.si_pid = (pid_t)sys0(SYS_getpid);
    info.si_value.sival_ptr = (void *)(uintptr_t)((uint64_t)number << 32 | (uint32_t)word);
    return sys3(SYS_rt_sigqueueinfo, pid, NEWS, &info) == 0;
}

int word_in(union sigval value)
{
    return (int)(uint32_t)(uintptr_t)value.sival_ptr;
}

uint32_t number_in(union sigval value)
{
    return (uint32_t)((uint64_t)(uintptr_t)value.sival_ptr >> 32);
}

void note_early(struct guard *guard)
{
    uint64_t pending = 0;
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    guard->early |= pending & (bit(SIGINT) | bit(SIGQUIT));
}

void leave(int status)
{
    for (;;)
        sys1(SYS_exit_group, status);
}

/* As that one did: with its exit status, or of the same signal, but with no core of our own. */
void end_as(const siginfo_t *status)
{
    if (status->si_code == CLD_EXITED)
        leave(status->si_status);
    int sig = status->si_status;
    const struct limit none = {0, 0};
    sys4(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL);
    sys2(SYS_prctl, PR_SET_DUMPABLE, 0); /* a core_pattern that is a program does not ask the limit */
    set_default(sig);
    sys2(SYS_kill, sys0(SYS_getpid), sig);
    set_mask(~bit(sig));
    leave(128 + sig); /* PID 1 of a namespace is spared what it sends itself */
}
