/* SIGKILL after the grace, by a POSIX timer: no thread, no helper, and Python cannot delay it.
 *
 * timer_create(2) may allocate, so the timer is made at arming; timer_settime(2) is
 * async-signal-safe. Timers are not inherited by fork, and end at exec. */
#include "arm.h"

#include <time.h>

static timer_t timer;
static bool made;

int pds_grace_prepare(int carrier)
{
    if (made)
        return 0;
    /* PID 1 of a namespace is spared its own SIGKILL. There the timer wakes the handler. */
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = getpid() == 1 ? carrier : SIGKILL};
    event.sigev_value.sival_ptr = &timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        return pds_fail(errno, "timer_create");
    made = true;
    return 0;
}

void pds_grace_start(int64_t grace_ns)
{
    struct itimerspec in = {.it_value = {.tv_sec = grace_ns / 1000000000, .tv_nsec = grace_ns % 1000000000}};
    if (made)
        timer_settime(timer, 0, &in, NULL);
}

bool pds_grace_expired(const siginfo_t *info)
{
    return info->si_code == SI_TIMER && info->si_value.sival_ptr == &timer;
}

void pds_grace_after_fork_in_child(void)
{
    made = false;
}
