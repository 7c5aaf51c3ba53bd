/* The main thread's parent-death setting, from another thread: only a thread can change or read its
 * own. So it is asked by the carrier signal, and answers in the handler. */
#include "arm.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

enum { ANSWER_WITHIN = 1 /* second */ };
enum { IDLE, ASKED, TAKEN };

static struct {
    atomic_int state;
    int sig, result;
    sem_t done;
} question;

int pds_main_thread_setting(int carrier, int sig)
{
    sem_init(&question.done, 0, 0);
    question.sig = sig;
    atomic_store(&question.state, ASKED);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_WITHIN;
    int r = (int)syscall(SYS_tgkill, getpid(), getpid(), carrier);
    while (r == 0 && sem_timedwait(&question.done, &until) < 0) {
        int asked = ASKED;
        if (errno == ETIMEDOUT && atomic_compare_exchange_strong(&question.state, &asked, IDLE))
            return pds_fail(ETIMEDOUT, "tgkill"); /* it blocks the signal, or is stopped */
    }
    atomic_store(&question.state, IDLE);
    if (r < 0)
        return pds_fail(errno, "tgkill");
    return question.result < 0 ? pds_fail(-question.result, "prctl") : question.result;
}

void pds_main_thread_answer(void)
{
    int asked = ASKED;
    if (!pds_on_main_thread() || !atomic_compare_exchange_strong(&question.state, &asked, TAKEN))
        return;
    question.result = pds_thread_setting(question.sig);
    sem_post(&question.done);
}

void pds_main_thread_after_fork_in_child(void)
{
    atomic_store(&question.state, IDLE);
}
