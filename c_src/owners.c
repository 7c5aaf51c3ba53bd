/* Owners: native threads that last as long as the process, and so may be the parents of its children.
 *
 * The kernel ties PR_SET_PDEATHSIG to the *thread* that created the child. The main thread clones for itself; for
 * any other an owner does, while it waits. The first such thread starts the first owner; another is started when as
 * many as there are CPUs are busy and stay so (a slow exec blocks its owner), or when none has the place of the asking
 * thread (place.c): a new thread takes over all of its creator's, so each owner can serve all threads that are like the
 * one that started it. What is often changed and can be given to a child, it is given: signal mask, CPU affinity, nice
 * value. */
#include "internal.h"
#include "pdeathsig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OWNERS_MAX = 64, STACK_SIZE = 128 * 1024, PATIENCE_NS = 5 * 1000 * 1000 };

struct request {
    struct spawning *spawning;
    int result;
    const char *failed_call;
    sem_t answered;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_is_idle;
static struct owner {
    pid_t tid; /* 0: not known yet */
    uint64_t place;
    struct request *request; /* NULL: idle */
    sem_t asked;
} owners[OWNERS_MAX];
static int owners_count;
static pid_t process; /* whose owners they are: a raw clone(2) runs no at-fork handlers */

static void reset(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&one_is_idle, &attributes);
    pthread_condattr_destroy(&attributes);
    owners_count = 0;
    process = getpid();
}

/* All but those that libc sends to its own threads, as setuid(3) does. */
static void block_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, _NSIG / 8);
}

static void *own(void *argument)
{
    struct owner *owner = argument;
    block_signals();
    prctl(PR_SET_NAME, "pdeathsig");
    owner->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        while (sem_wait(&owner->asked) != 0)
            ;
        struct request *request = owner->request;
        request->result = pds_clone(request->spawning);
        request->failed_call = pds_failed_call();
        pthread_mutex_lock(&lock);
        owner->request = NULL;
        pthread_cond_broadcast(&one_is_idle);
        pthread_mutex_unlock(&lock);
        sem_post(&request->answered);
    }
    return NULL;
}

static int create(struct owner *owner, size_t stack_size)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (stack_size > 0)
        pthread_attr_setstacksize(&attributes, stack_size);
    int error = pthread_create(&thread, &attributes, own, owner);
    pthread_attr_destroy(&attributes);
    return error;
}

static int start(uint64_t place, struct request *request)
{
    struct owner *owner = &owners[owners_count];
    *owner = (struct owner){.place = place, .request = request};
    sem_init(&owner->asked, 0, 1);
    int error = create(owner, STACK_SIZE);
    if (error == EINVAL) /* a library's thread-local storage does not fit */
        error = create(owner, 0);
    if (error != 0)
        return pds_fail(error, "pthread_create");
    owners_count++;
    return 0;
}

/* Whether this owner's child can be what the asking thread's would be. Fills in what the child has to change. */
static bool suits(const struct owner *owner, uint64_t place, struct spawning *spawning)
{
    if (owner->tid == 0 || owner->place != place || !pds_place_shared(owner->tid))
        return false;
    int nice = getpriority(PRIO_PROCESS, (id_t)owner->tid);
    if (nice > spawning->nice) /* to go back may not be permitted */
        return false;
    spawning->renice = nice != spawning->nice;
    unsigned char affinity[AFFINITY_MAX];
    long size = syscall(SYS_sched_getaffinity, owner->tid, sizeof affinity, affinity);
    if (size > 0 && (size_t)size == spawning->affinity_size && memcmp(affinity, spawning->affinity, (size_t)size) == 0)
        spawning->affinity_size = 0;
    return true;
}

static int cpus(const struct spawning *spawning)
{
    int n = 0;
    for (size_t i = 0; i < spawning->affinity_size; i++)
        n += __builtin_popcount(spawning->affinity[i]);
    return n;
}

/* Returns whether one became idle in time. */
static bool one_becomes_idle(void)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return pthread_cond_timedwait(&one_is_idle, &lock, &until) == 0;
}

/* Hands the request to an owner. With none that suits it waits, or reports why none can be had. */
static int ask(uint64_t place, struct request *request)
{
    struct spawning *spawning = request->spawning;
    size_t affinity_size = spawning->affinity_size;
    int enough = cpus(spawning);
    for (;;) {
        int busy = 0;
        for (int i = 0; i < owners_count; i++) {
            spawning->affinity_size = affinity_size;
            if (owners[i].request != NULL) {
                busy += owners[i].place == place;
            } else if (suits(&owners[i], place, spawning)) {
                owners[i].request = request;
                sem_post(&owners[i].asked);
                return 0;
            }
        }
        if (busy >= enough && one_becomes_idle())
            continue;
        spawning->affinity_size = 0; /* a new one has ours */
        spawning->renice = false;
        int r = owners_count < OWNERS_MAX ? start(place, request) : pds_fail(EAGAIN, "pdeathsig owners");
        if (r >= 0 || busy == 0)
            return r;
        pthread_cond_wait(&one_is_idle, &lock);
    }
}

int pds_owners_clone(struct spawning *spawning)
{
    struct request request = {.spawning = spawning};
    uint64_t place = pds_place();
    spawning->nice = getpriority(PRIO_PROCESS, 0);
    if (spawning->nice < 0 && (sched_getscheduler(0) & SCHED_RESET_ON_FORK))
        spawning->nice = 0; /* as an owner's is, then */
    long size = syscall(SYS_sched_getaffinity, 0, sizeof spawning->affinity, spawning->affinity);
    spawning->affinity_size = size > 0 ? (size_t)size : 0;
    sem_init(&request.answered, 0, 0);
    pthread_mutex_lock(&lock);
    if (process != spawning->parent)
        reset();
    int r = ask(place, &request);
    pthread_mutex_unlock(&lock);
    if (r < 0)
        return r;
    while (sem_wait(&request.answered) != 0)
        ;
    return request.result < 0 ? pds_fail(-request.result, request.failed_call) : request.result;
}

void pds_owners_after_fork_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    process = 0;
}
