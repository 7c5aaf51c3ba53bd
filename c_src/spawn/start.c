/* The start of a program: by the calling thread if it lasts, else by a spawner thread. */
#include "spawn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

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

static int clone_and_bind(struct spawning *spawning)
{
    struct pds_spawn *s = spawning->s;
    const bool copied = s->envp == NULL;
    spawning->parent = getpid();
    spawning->descriptors_max = sysconf(_SC_OPEN_MAX);
    if (copied && (s->envp = copy_of_environ()) == NULL)
        return pds_fail(ENOMEM, "malloc");
    int pid = syscall(SYS_gettid) == spawning->parent ? pds_clone(spawning) : pds_spawner_threads_clone(spawning);
    if (copied) {
        free(s->envp);
        s->envp = NULL;
    }
    return pid > 0 && spawning->failed != NULL ? reap(pid, spawning) : pid;
}

int pds_start(struct spawning *spawning)
{
    sigset_t all, before = {0};
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    /* But for those that libc uses itself: setuid(3) on another thread awaits our answer, and holds
     * a lock that pthread_create(3) needs. */
    sigfillset(&all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, _NSIG / 8);
    if (!spawning->mask_given)
        spawning->mask = before;
    sigdelset(&spawning->mask, spawning->s->sig);
    int pid = clone_and_bind(spawning);
    if (pid > 0)
        spawning->s->pid = pid;
    if (pid > 0 && spawning->started != NULL)
        spawning->started(spawning);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, _NSIG / 8);
    pthread_setcancelstate(cancel_state, NULL);
    return pid;
}
