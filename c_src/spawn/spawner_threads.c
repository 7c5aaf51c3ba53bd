/* Spawner threads: they last as long as the process, and so may be the parents of its children.
 *
 * The kernel ties PR_SET_PDEATHSIG to the *thread* that created the child. The main thread clones
 * for itself; for any other a spawner thread does, while that one waits. The first such request
 * starts the first spawner thread. Another is started when as many as there are CPUs are busy and
 * stay so: a slow exec blocks the thread that cloned. Another is also started when none has the
 * attributes of the asking thread (thread_attributes.c). A new thread takes over all of its
 * creator's, so each can serve all threads that are like the one that started it. What is often
 * changed and can be given to a child, is given to it: signal mask, CPU affinity, nice value. */
#include "spawn.h"

#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

enum { THREADS_MAX = 64, STACK_SIZE = 128 * 1024, PATIENCE_NS = 5 * 1000 * 1000 };

struct request {
    struct spawning *spawning;
    int result;
    const char *failed_call;
    sem_t answered;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_is_idle = PTHREAD_COND_INITIALIZER;
static struct spawner {
    pid_t tid; /* 0: not known yet */
    uint64_t attributes;
    struct request *request; /* NULL: idle */
    sem_t asked;
} spawners[THREADS_MAX];
static int spawners_count;
static pid_t process; /* the one that they belong to: a raw clone(2) runs no at-fork handlers */

/* It has all signals blocked, as its creator has (start.c). */
static void *run(void *argument)
{
    struct spawner *spawner = argument;
    prctl(PR_SET_NAME, "pdeathsig");
    spawner->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        while (sem_wait(&spawner->asked) != 0)
            ;
        struct request *request = spawner->request;
        request->result = pds_clone(request->spawning);
        request->failed_call = pds_failed_call();
        pthread_mutex_lock(&lock);
        spawner->request = NULL;
        pthread_cond_broadcast(&one_is_idle);
        pthread_mutex_unlock(&lock);
        sem_post(&request->answered);
    }
    return NULL;
}

static int add_spawner(uint64_t attributes, struct request *request)
{
    pthread_t thread;
    if (spawners_count == THREADS_MAX)
        return pds_fail(EAGAIN, "pdeathsig spawner threads");
    struct spawner *spawner = &spawners[spawners_count];
    *spawner = (struct spawner){.attributes = attributes, .request = request};
    sem_init(&spawner->asked, 0, 1);
    int r = pds_start_thread(&thread, STACK_SIZE, run, spawner);
    spawners_count += r >= 0;
    return r;
}

/* Whether its child can be as the asking thread's would be. Fills in what it has to change. */
static bool suits(const struct spawner *spawner, uint64_t attributes, struct spawning *spawning)
{
    if (spawner->tid == 0 || spawner->attributes != attributes || !pds_thread_shares_files(spawner->tid))
        return false;
    int nice = getpriority(PRIO_PROCESS, (id_t)spawner->tid);
    if (nice > spawning->nice) /* to go back may not be permitted */
        return false;
    spawning->renice = nice != spawning->nice;
    unsigned long affinity[CPUS_MAX / 8 / sizeof(unsigned long)];
    long size = syscall(SYS_sched_getaffinity, spawner->tid, sizeof affinity, affinity);
    if (size > 0 && (size_t)size == spawning->affinity_size && memcmp(affinity, spawning->affinity, (size_t)size) == 0)
        spawning->affinity_size = 0;
    return true;
}

/* Returns whether one became idle in time. */
static bool one_becomes_idle(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return pthread_cond_timedwait(&one_is_idle, &lock, &until) == 0;
}

/* Hands the request to a spawner thread. With none that suits it waits. */
static int hand_over(uint64_t attributes, struct request *request)
{
    struct spawning *spawning = request->spawning;
    size_t affinity_size = spawning->affinity_size;
    int enough = CPU_COUNT_S(affinity_size, (const cpu_set_t *)spawning->affinity);
    for (;;) {
        int busy = 0;
        for (int i = 0; i < spawners_count; i++) {
            spawning->affinity_size = affinity_size;
            if (spawners[i].request != NULL) {
                busy += spawners[i].attributes == attributes;
            } else if (suits(&spawners[i], attributes, spawning)) {
                spawners[i].request = request;
                sem_post(&spawners[i].asked);
                return 0;
            }
        }
        if (busy >= enough && one_becomes_idle())
            continue;
        spawning->affinity_size = 0; /* a new one has ours */
        spawning->renice = false;
        int r = add_spawner(attributes, request);
        if (r >= 0 || busy == 0)
            return r;
        pthread_cond_wait(&one_is_idle, &lock);
    }
}

int pds_spawner_threads_clone(struct spawning *spawning)
{
    struct request request = {.spawning = spawning};
    uint64_t attributes = pds_thread_attributes();
    spawning->nice = getpriority(PRIO_PROCESS, 0);
    if (spawning->nice < 0 && (sched_getscheduler(0) & SCHED_RESET_ON_FORK))
        spawning->nice = 0; /* as a spawner thread's is, then */
    long size = syscall(SYS_sched_getaffinity, 0, sizeof spawning->affinity, spawning->affinity);
    spawning->affinity_size = size > 0 ? (size_t)size : 0;
    sem_init(&request.answered, 0, 0);
    pthread_mutex_lock(&lock);
    if (process != spawning->parent) {
        pthread_cond_init(&one_is_idle, NULL);
        spawners_count = 0;
        process = spawning->parent;
    }
    int r = hand_over(attributes, &request);
    pthread_mutex_unlock(&lock);
    if (r < 0)
        return r;
    while (sem_wait(&request.answered) != 0)
        ;
    return request.result < 0 ? pds_fail(-request.result, request.failed_call) : request.result;
}

void pds_spawner_threads_after_fork_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    process = 0;
}
