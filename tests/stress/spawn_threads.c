/* c_src without Python, for ThreadSanitizer, which then sees every thread; `make tsan`. For
 * SECONDS, eight threads and the main one start children and end them, two fork, one arms and
 * disarms. */
#include "../../c_src/spawn/spawn.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SPAWNERS = 8, FORKERS = 2, ARMERS = 1, THREADS = SPAWNERS + FORKERS + ARMERS };
enum { HANGS_AFTER = 60 }; /* seconds */

static time_t until;
static atomic_long spawned, forked, armed;
static bool pidfds; /* Valgrind 3.19 has none */

static bool going_on(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec < until;
}

static int end_of(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            err(1, "waitpid %d", pid);
    }
    return status;
}

static void spawn(unsigned int *seed)
{
    static struct {
        char *executables[3], *argv[4];
        bool lives;
    } programs[] = {
        {{"/nowhere/true", "/bin/true"}, {"true"}, false},
        {{"/bin/sleep"}, {"sleep", "1000"}, true},
        {{"/nowhere/nothing"}, {"nothing"}, false},
        {{"/bin/sh"}, {"sh", "-c", "sleep 1000 | sleep 1000"}, true},
    };
    int which = rand_r(seed) % 4, errpipe[2], keep[2], keep_count = 0;
    int lifeline = which == 3 || rand_r(seed) % 4 == 0 ? pds_lifeline() : -1;
    if (pipe2(errpipe, O_CLOEXEC) < 0)
        err(1, "pipe2");
    keep[keep_count++] = errpipe[1];
    if (lifeline >= 0) {
        keep[lifeline < errpipe[1] ? 0 : 1] = lifeline;
        keep[lifeline < errpipe[1] ? 1 : 0] = errpipe[1];
        keep_count = 2;
    }
    struct pds_spawn s = {
        .executables = programs[which].executables,
        .argv = programs[which].argv,
        .cwd = rand_r(seed) % 4 == 0 ? "/" : NULL,
        .keep = keep,
        .p2cread = -1,
        .p2cwrite = -1,
        .c2pread = -1,
        .c2pwrite = -1,
        .errread = -1,
        .errwrite = -1,
        .errpipe_read = errpipe[0],
        .errpipe_write = errpipe[1],
        .keep_count = keep_count,
        .close_fds = 1,
        .restore_signals = 1,
        .process_group = lifeline >= 0 ? 0 : -1,
        .uid = -1,
        .gid = -1,
        .groups_count = -1,
        .umask = -1,
        .share_memory = rand_r(seed) % 4 != 0,
        .threads = 1,
        .sig = SIGKILL,
        .lifeline = lifeline,
        .group = lifeline >= 0,
    };
    int pid = pds_spawn(&s);
    if (pid < 0)
        errx(1, "pds_spawn: %s: %s", pds_failed_call(), strerror(-pid));
    close(errpipe[1]);
    close(lifeline);
    char said[64] = "";
    for (ssize_t n, length = 0; (n = read(errpipe[0], said + length, sizeof said - 1 - (size_t)length)) > 0;)
        length += n;
    close(errpipe[0]);
    bool fails = which == 2;
    if (strcmp(said, fails ? "OSError:2:" : "") != 0)
        errx(1, "%s said %s", programs[which].argv[0], said);
    if (programs[which].lives)
        kill(lifeline >= 0 ? -pid : pid, SIGKILL);
    int status = end_of(pid);
    if (programs[which].lives ? !WIFSIGNALED(status) : status != (fails ? 255 << 8 : 0))
        errx(1, "%s ended with %#x", programs[which].argv[0], (unsigned int)status);
    spawned++;
}

static void fork_once(unsigned int *seed)
{
#ifdef __SANITIZE_ADDRESS__ /* in a forked child, its malloc may be locked for ever */
    bool spawns = false;
#else
    bool spawns = rand_r(seed) % 2;
#endif
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (pid == 0) {
        alarm(HANGS_AFTER);
        if (spawns)
            spawn(seed);
        _exit(0);
    }
    int status = end_of(pid);
    if (status != 0)
        errx(1, "after fork: %#x", (unsigned int)status);
    forked++;
}

static void arm_once(unsigned int *seed)
{
    const int parent = pds_parent();
    const int watches = rand_r(seed) % 2 && pidfds;
    int r = pds_arm(SIGKILL, rand_r(seed) % 2 ? 1000000000 : 0, parent, "", &parent, watches, "");
    struct pds_status status;
    if (r < 0 || (r = pds_status(&status)) < 0 || (r = pds_disarm()) < 0)
        errx(1, "%s: %s", pds_failed_call(), strerror(-r));
    armed++;
}

static void *work(void *argument)
{
    unsigned int number = (unsigned int)(uintptr_t)argument, seed = number;
    while (going_on())
        (number % THREADS < SPAWNERS ? spawn : number % THREADS < SPAWNERS + FORKERS ? fork_once : arm_once)(&seed);
    return NULL;
}

static int next_descriptor(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long seconds = argc > 1 ? strtol(argv[1], NULL, 10) : 10;
    until = now.tv_sec + seconds;
    unsigned int seed = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 1;
    alarm((unsigned int)seconds + HANGS_AFTER);
    int r = pds_init(), before = next_descriptor();
    if (r < 0)
        errx(1, "%s: %s", pds_failed_call(), strerror(-r));
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    pidfds = pidfd >= 0;
    close(pidfd);
    pthread_t threads[THREADS];
    for (unsigned int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(seed * THREADS + i));
    work((void *)(uintptr_t)(seed * THREADS));
    for (unsigned int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        errx(1, "a child is left");
    if (next_descriptor() != before)
        errx(1, "a descriptor is left");
    printf("%ld spawned, %ld forked, %ld armed\n", spawned, forked, armed);
    return 0;
}
