/* Make one system call of a process fail, or list the calls.
 *
 *     inject PID GATE                  print a line for each call: its number and the process's
 * name
 *     inject PID GATE CALL N ERRNO     the N-th call of that number fails with ERRNO, and is not
 * made
 *
 * The process PID waits for the end of the pipe GATE. It calls close(-1001) where counting begins
 * and close(-1002) where counting ends. The calls of all its threads and descendants count, in the
 * order in which they are made. A process that execs another program than the guard counts no more.
 * At the end the tool prints "injected NAME" or "unreached", and traces no process any more.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the registers are those of x86-64"
#endif

enum { BEGIN = -1001, END = -1002, DENIED = 8, SYSCALL_STOP = SIGTRAP | 0x80 };

static bool counting;
static int wanted = -1, error;
static long nth;
static pid_t failing; /* the thread of which a call was suppressed, and has not returned yet */

static void read_name(pid_t tid, char *name, int size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", tid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(name, size, file) == NULL)
        strcpy(name, "?");
    name[strcspn(name, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

static bool is_the_guard(pid_t tid)
{
    char path[64], program[512];
    snprintf(path, sizeof path, "/proc/%d/exe", tid);
    ssize_t length = readlink(path, program, sizeof program - 1);
    if (length < 0)
        return false;
    program[length] = '\0';
    const char *name = strrchr(program, '/');
    return name != NULL && strcmp(name + 1, "pdeathsig-run") == 0;
}

static void suppress_call(pid_t tid)
{
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers) < 0)
        return;
    registers.orig_rax = (unsigned long)-1;
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
    failing = tid;
}

static void report_failure(pid_t tid)
{
    struct user_regs_struct registers;
    char name[64];
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers) < 0)
        return;
    registers.rax = (unsigned long)-error;
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
    ptrace(PTRACE_DETACH, tid, 0, 0);
    read_name(tid, name, sizeof name);
    printf("injected %s\n", name);
    exit(0);
}

static void note_entry(pid_t tid, int call, int argument)
{
    char name[64];
    if (call == SYS_close && argument == BEGIN)
        counting = true;
    else if (call == SYS_close && argument == END)
        counting = false;
    else if (counting && wanted < 0) {
        read_name(tid, name, sizeof name);
        printf("%d %s\n", call, name);
    } else if (counting && call == wanted && failing == 0 && --nth == 0)
        suppress_call(tid);
}

/* Returns whether counting has ended. */
static bool at_system_call(pid_t tid)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0)
        return false;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && tid == failing)
        report_failure(tid);
    bool was_counting = counting;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        note_entry(tid, (int)info.entry.nr, (int)info.entry.args[0]);
    return was_counting && !counting && failing == 0;
}

static void resume(pid_t tid, int status)
{
    int event = status >> 16, sig = WSTOPSIG(status);
    bool group_stop = event == PTRACE_EVENT_STOP && sig != SIGTRAP;
    bool delivery = event == 0 && sig != SYSCALL_STOP;
    bool another_program = event == PTRACE_EVENT_EXEC && !is_the_guard(tid);
    ptrace(another_program ? PTRACE_DETACH : group_stop ? PTRACE_LISTEN : PTRACE_SYSCALL, tid, 0, delivery ? sig : 0);
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 6)
        return 2;
    pid_t driver = (pid_t)atoi(argv[1]);
    if (argc == 6) {
        wanted = atoi(argv[3]);
        nth = atol(argv[4]);
        error = atoi(argv[5]);
    }
    long options =
        PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, driver, 0, options) < 0 || ptrace(PTRACE_INTERRUPT, driver, 0, 0) < 0)
        return DENIED;
    close(atoi(argv[2]));
    int status;
    pid_t tid;
    while ((tid = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status))
            continue;
        if (WSTOPSIG(status) == SYSCALL_STOP && status >> 16 == 0 && at_system_call(tid))
            break;
        resume(tid, status);
    }
    if (wanted >= 0)
        puts("unreached");
    return 0;
}
