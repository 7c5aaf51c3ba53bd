/* system(3), with the shell bound. As in libc's, SIGINT and SIGQUIT are ignored in the whole
 * process as long as any thread is in here: the terminal sends them to the shell too. SIGCHLD is
 * blocked in the calling thread. */
#include "spawn.h"

#include <sys/wait.h>

static const int IGNORED[] = {SIGINT, SIGQUIT};
enum { COUNT = sizeof IGNORED / sizeof *IGNORED };

static int running; /* threads in pds_system() */
static struct sigaction before[COUNT];

/* Returns the signals that were not ignored before: bit 0 is signal 1. */
static uint64_t start_ignoring(void)
{
    const struct sigaction nothing = {.sa_handler = SIG_IGN};
    uint64_t not_ignored = 0;
    pthread_mutex_lock(&pds_lock);
    for (int i = 0; i < COUNT; i++) {
        if (running == 0)
            sigaction(IGNORED[i], &nothing, &before[i]);
        if (!pds_action_is(&before[i], SIG_IGN))
            not_ignored |= (uint64_t)1 << (IGNORED[i] - 1);
    }
    running++;
    pthread_mutex_unlock(&pds_lock);
    return not_ignored;
}

static void restore_actions(void)
{
    for (int i = 0; i < COUNT; i++)
        sigaction(IGNORED[i], &before[i], NULL);
}

static void stop_ignoring(void)
{
    pthread_mutex_lock(&pds_lock);
    if (--running == 0)
        restore_actions();
    pthread_mutex_unlock(&pds_lock);
}

static uint64_t as_bits(const sigset_t *set)
{
    uint64_t signals = 0;
    for (int sig = 1; sig <= 64; sig++)
        signals |= (uint64_t)(sigismember(set, sig) == 1) << (sig - 1);
    return signals;
}

int pds_system(struct pds_spawn *s)
{
    sigset_t sigchld, mask;
    int status, pid;
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    uint64_t not_ignored = start_ignoring();
    pthread_sigmask(SIG_BLOCK, &sigchld, &mask);
    const struct pds_posix posix = {.set_mask = 1, .mask = as_bits(&mask), .defaults = not_ignored};
    int r = pid = pds_posix_spawn(s, &posix);
    while (pid > 0 && (r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
        ;
    if (pid > 0)
        r = r < 0 ? pds_fail(errno, "waitpid") : status;
    stop_ignoring();
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return r;
}

/* The child has none of the threads that are in pds_system(). */
void pds_system_after_fork_in_child(void)
{
    if (running > 0)
        restore_actions();
    running = 0;
}
