/* The processes that are left behind. Every orphan becomes a child of this process, a subreaper. */
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS = 3, BETWEEN = 10 }; /* ms */

/* The rest of proc_pid_stat(5), from the state on. */
static bool read_stat(const char *path, char *line, size_t size, char **state)
{
    FILE *stat = fopen(path, "re");
    char *got = stat == NULL ? NULL : fgets(line, (int)size, stat);
    if (stat != NULL)
        fclose(stat);
    char *end = got == NULL ? NULL : strrchr(line, ')');
    *state = end == NULL ? NULL : end + 2;
    return end != NULL;
}

static bool lives(pid_t pid)
{
    char path[64], line[512], *state;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return read_stat(path, line, sizeof line, &state) && strchr("ZX", *state) == NULL;
}

/* A living child of any of its threads, other than `but`; 0: none. */
static pid_t living_child(pid_t parent, pid_t but)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *threads = opendir(path);
    pid_t found = 0;
    for (struct dirent *entry; found == 0 && threads != NULL && (entry = readdir(threads)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", parent, entry->d_name);
        FILE *list = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        for (int pid; found == 0 && list != NULL && fscanf(list, "%d", &pid) == 1;)
            found = pid != but && lives(pid) ? pid : 0;
        if (list != NULL)
            fclose(list);
    }
    if (threads != NULL)
        closedir(threads);
    return found;
}

bool all_gone_but_driver(int64_t until)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int child_signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t left;
    for (;;) {
        int status;
        pid_t tid;
        while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
            if (WIFSTOPPED(status))
                resume(tid, status, false);
        }
        left = living_child(driver, 0);
        if (left == 0)
            left = living_child(getpid(), driver);
        int64_t ms = until - now_ms();
        if (left == 0 || ms <= 0)
            break;
        struct pollfd either[] = {{.fd = child_signals, .events = POLLIN}, {.events = POLLIN}};
        either[1].fd = (int)syscall(SYS_pidfd_open, left, 0);
        poll(either, 2, (int)ms);
        struct signalfd_siginfo taken;
        while (read(child_signals, &taken, sizeof taken) > 0)
            ;
        if (either[1].fd >= 0)
            close(either[1].fd);
    }
    close(child_signals);
    return left == 0;
}

static bool sleeps(pid_t pid)
{
    char path[300], line[512], *state;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    bool all = true;
    for (struct dirent *entry; all && threads != NULL && (entry = readdir(threads)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/stat", pid, entry->d_name);
        all = entry->d_name[0] == '.' || !read_stat(path, line, sizeof line, &state) || *state == 'S';
    }
    if (threads != NULL)
        closedir(threads);
    return all;
}

/* The kernel reports no event when a process begins to wait, hence several looks. */
bool driver_is_quiet(void)
{
    for (int i = 0; i < LOOKS; i++) {
        if (!sleeps(driver))
            return false;
        nanosleep(&(struct timespec){.tv_nsec = BETWEEN * 1000000L}, NULL);
    }
    return true;
}

int end_survivors(const char *where, int *stopped)
{
    int survivors = 0;
    for (;;) {
        FILE *list = fopen("/proc/thread-self/children", "re");
        int pid = 0;
        if (list == NULL || fscanf(list, "%d", &pid) != 1)
            pid = 0;
        if (list != NULL)
            fclose(list);
        if (pid == 0)
            return survivors;
        char path[64], line[512] = "", *state = line;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (read_stat(path, line, sizeof line, &state))
            state[1] = '\0';
        bool counts = strchr("ZX", *state) == NULL;
        if (counts)
            printf("    survivor: %s; killed at: %s\n", line, where);
        survivors += counts;
        *stopped += *state == 'T';
        kill(pid, SIGKILL);
        int status; /* its traced threads need a wait of their own */
        pid_t tid;
        while ((tid = waitpid(-1, &status, __WALL)) > 0 && (WIFSTOPPED(status) || tid != pid)) {
            if (WIFSTOPPED(status))
                resume(tid, status, false);
        }
    }
}
