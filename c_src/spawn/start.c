/* The start of a program: by the calling thread if it lasts, else by a spawner thread. */
#include "spawn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

void pds_hold_signals(struct signals *before)
{
    sigset_t all;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancel_state);
    /* But for those that libc uses itself: setuid(3) on another thread awaits our answer, and holds
     * a lock that pthread_create(3) needs. */
    sigfillset(&all);
    memset(&before->mask, 0, sizeof before->mask);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before->mask, _NSIG / 8);
}

void pds_restore_signals(const struct signals *before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before->mask, NULL, _NSIG / 8);
    pthread_setcancelstate(before->cancel_state, NULL);
}

/* The pointers of `environ`: another thread may change that while we exec. */
static char **copy_of_environ(void)
{
    char **ours = environ;
    size_t count = 0;
    while (ours != NULL && ours[count] != NULL)
        count++;
    char **copy = malloc((count + 1) * sizeof *copy);
    if (copy == NULL)
        return NULL;
    if (count > 0)
        memcpy(copy, ours, count * sizeof *copy);
    copy[count] = NULL;
    return copy;
}

/* A child that could not be bound, and so ends. */
static int reap(pid_t pid, const struct spawning *spawning)
{
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pds_fail(spawning->error, spawning->failed);
}

int pds_start(struct spawning *spawning)
{
    char **our_environment = NULL;
    spawning->parent = getpid();
    spawning->descriptors_max = sysconf(_SC_OPEN_MAX);
    if (spawning->envp == NULL)
        spawning->envp = our_environment = copy_of_environ();
    if (spawning->envp == NULL)
        return pds_fail(ENOMEM, "malloc");
    int pid = syscall(SYS_gettid) == spawning->parent ? pds_clone(spawning) : pds_spawner_threads_clone(spawning);
    if (pid > 0 && spawning->failed != NULL)
        pid = reap(pid, spawning);
    if (pid > 0)
        spawning->s->pid = pid;
    free(our_environment);
    return pid;
}
