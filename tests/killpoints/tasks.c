/* The traced threads and processes, and what they did. */
#include "sweep.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TASKS = 512 };

pid_t driver;
bool counting, reached_end, blind;
static struct task tasks[TASKS];
static int count, leaves;
static bool driver_has_returned;
static pid_t spawning_thread;

/* Whether the text contains the variable's TEXT; or begins with it, if the variable has ^TEXT. */
static bool wanted(const char *name, const char *text)
{
    const char *value = getenv(name);
    if (value == NULL)
        return false;
    char plain[256];
    snprintf(plain, sizeof plain, "%s", strncmp(value, "exec ", 5) == 0 ? value + 5 : value);
    plain[strcspn(plain, "/")] = '\0';
    if (plain[0] == '^')
        return strncmp(text, plain + 1, strlen(plain + 1)) == 0;
    return plain[0] != '\0' && strstr(text, plain) != NULL;
}

static int number_after(const char *text, const char *name)
{
    const char *found = strstr(text, name);
    return found == NULL ? 0 : (int)strtol(found + strlen(name), NULL, 10);
}

static size_t read_all(pid_t tid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0 ? (size_t)got : 0;
}

struct task *task_of(pid_t tid)
{
    for (int i = count; i-- > 0;) {
        if (tasks[i].tid == tid)
            return &tasks[i];
    }
    if (count == TASKS) {
        printf("    trouble: more than %d tasks\n", TASKS);
        exit(TROUBLE);
    }
    char status[4096];
    read_all(tid, "status", status, sizeof status);
    tasks[count] = (struct task){.tid = tid, .process = number_after(status, "\nTgid:"), .counts = counting};
    tasks[count].parent = number_after(status, "\nPPid:");
    return &tasks[count++];
}

void note_death(pid_t tid)
{
    task_of(tid)->dead = true;
}

void interrupt_stopped(void)
{
    for (int i = 0; i < count; i++) {
        if (tasks[i].listens && !tasks[i].dead)
            ptrace(PTRACE_INTERRUPT, tasks[i].tid, 0, 0);
    }
}

static bool is_process(const struct task *task)
{
    return task->tid == task->process;
}

pid_t died_early(void)
{
    for (int i = 0; i < count; i++) {
        if (tasks[i].dead && tasks[i].counts && is_process(&tasks[i]))
            return tasks[i].tid;
    }
    return 0;
}

bool child_was_born(void)
{
    for (int i = 0; i < count; i++) {
        if (tasks[i].counts && tasks[i].process != driver)
            return true;
    }
    return false;
}

static struct task *first_child(pid_t parent)
{
    for (int i = 0; i < count; i++) {
        if (tasks[i].parent == parent && is_process(&tasks[i]))
            return &tasks[i];
    }
    return NULL;
}

struct task *find_victim(void)
{
    const char *name = getenv("VICTIM");
    struct task *found = name == NULL || strncmp(name, "driver", 6) == 0 ? task_of(driver) : NULL;
    if (name != NULL && strcmp(name, "thread") == 0 && spawning_thread > 0)
        found = task_of(spawning_thread);
    for (int i = 0; i < count && found == NULL; i++) {
        if (tasks[i].is_victim)
            found = &tasks[i];
    }
    for (const char *at = name; at != NULL && found != NULL && (at = strchr(at, '/')) != NULL; at++)
        found = first_child(found->tid);
    return found == NULL || found->dead ? NULL : found;
}

bool all_leaves_are_ready(void)
{
    const char *wants = getenv("LEAVES");
    return leaves >= (wants == NULL ? 1 : atoi(wants));
}

static void note_mark(const struct task *task, int mark)
{
    counting |= mark == BEGIN;
    if (mark == THREAD)
        spawning_thread = task->tid;
    if (mark == END && task->process == driver)
        driver_has_returned = true;
    else if (mark == END)
        leaves++;
    reached_end = driver_has_returned && all_leaves_are_ready();
}

static void note_exec(struct task *task)
{
    char command[4096];
    size_t length = read_all(task->tid, "cmdline", command, sizeof command);
    for (size_t i = 0; i < length; i++)
        command[i] = command[i] != '\0' ? command[i] : ' ';
    char *program = command + strcspn(command, " ");
    while (program > command && program[-1] != '/')
        program--;
    task->is_python = task->starting = strncmp(program, "python", 6) == 0;
    task->armed = false;
    task->is_victim = wanted("VICTIM", program);
    task->may_ask = wanted("BLIND", program);
}

enum path_kind { PDEATHSIG_FILE, PROC_FILE, OTHER_FILE };

static enum path_kind path_kind_of(pid_t tid, uint64_t address)
{
    char path[256] = "";
    struct iovec here = {path, sizeof path - 1}, there = {(void *)(uintptr_t)address, sizeof path - 1};
    if (process_vm_readv(tid, &here, 1, &there, 1, 0) <= 0) { /* the mapping ends within this size */
        there.iov_len = 4096 - address % 4096 < sizeof path ? 4096 - address % 4096 : sizeof path - 1;
        if (process_vm_readv(tid, &here, 1, &there, 1, 0) <= 0)
            return OTHER_FILE;
    }
    bool ours = strstr(path, "site-packages/pdeathsig/") != NULL || strstr(path, "site-packages/_pdeathsig") != NULL;
    return ours ? PDEATHSIG_FILE : strncmp(path, "/proc/", 6) == 0 ? PROC_FILE : OTHER_FILE;
}

static void note_entry(struct task *task, const struct __ptrace_syscall_info *info)
{
    task->call = (long)info->entry.nr;
    if (task->call == SYS_close)
        note_mark(task, (int)info->entry.args[0]);
    struct task *main_thread = task_of(task->process);
    if (task->call == SYS_prctl && info->entry.args[0] == PR_SET_PDEATHSIG)
        main_thread->armed = true;
    if (main_thread->is_python && (task->call == SYS_openat || task->call == SYS_newfstatat)) {
        enum path_kind kind = path_kind_of(task->tid, info->entry.args[1]);
        if (kind == OTHER_FILE)
            main_thread->starting |= main_thread->armed;
        else if (kind == PDEATHSIG_FILE)
            main_thread->starting = false;
    }
}

bool note_stop(pid_t tid, int status)
{
    struct task *task = task_of(tid);
    int event = status >> 16;
    if (event == PTRACE_EVENT_EXEC)
        note_exec(task);
    if (event != 0)
        return counting && (event != PTRACE_EVENT_STOP || WSTOPSIG(status) == SIGTRAP);
    struct __ptrace_syscall_info info;
    if (WSTOPSIG(status) != (SIGTRAP | 0x80) || ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return false;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        note_entry(task, &info);
    else if (task->may_ask && task->call == SYS_getppid)
        blind = false;
    return counting;
}

char letter(pid_t tid)
{
    bool starting = task_of(task_of(tid)->process)->starting;
    return find_victim() == NULL ? '-' : blind ? 'b' : starting ? 's' : '.';
}

void describe(pid_t tid, int status, char *text, size_t size)
{
    const struct task *task = task_of(tid);
    char name[64];
    read_all(tid, "comm", name, sizeof name);
    name[strcspn(name, "\n")] = '\0';
    const char *task_name = tid == driver ? "main thread" : task->process == driver ? "another thread" : name;
    struct __ptrace_syscall_info info = {0};
    if (status >> 16 != 0)
        snprintf(text, size, "%s, event %d", task_name, status >> 16);
    else if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) >= 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY)
        snprintf(text, size, "%s, entry of system call %d", task_name, (int)info.entry.nr);
    else
        snprintf(text, size, "%s, exit of system call %ld: %lld", task_name, task->call, (long long)info.exit.rval);
}
