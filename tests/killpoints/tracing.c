/* Waiting for the traced threads, and resuming them. */
#include "sweep.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

enum { SYSCALL_STOP = SIGTRAP | 0x80 };
enum { FOR_A_THREAD = 2000, A_WHILE = 5 }; /* ms */

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

pid_t next_stop(int *status, int64_t until)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        pid_t tid = waitpid(-1, status, __WALL | WNOHANG);
        if (tid > 0 && !WIFSTOPPED(*status))
            note_death(tid);
        if (tid != 0)
            return tid;
        int64_t ms = until - now_ms();
        struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        if (ms <= 0 || (sigtimedwait(&child, NULL, &left) < 0 && errno == EAGAIN))
            return 0;
    }
}

void resume(pid_t tid, int status, bool traced)
{
    int event = status >> 16, sig = WSTOPSIG(status);
    bool group_stop = event == PTRACE_EVENT_STOP && sig != SIGTRAP;
    bool delivery = event == 0 && sig != SYSCALL_STOP;
    task_of(tid)->listens = traced && group_stop;
    ptrace(!traced ? PTRACE_DETACH : group_stop ? PTRACE_LISTEN : PTRACE_SYSCALL, tid, 0, delivery ? sig : 0);
}

bool is_entry(pid_t tid, int status)
{
    struct __ptrace_syscall_info info;
    return WSTOPSIG(status) == SYSCALL_STOP && status >> 16 == 0 &&
           ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) >= 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

/* Resumes the thread, and replaces the system call that it is about to make by exit(2). */
static void resume_to_exit(pid_t tid, int status)
{
#ifdef __x86_64__
    if (is_entry(tid, status))
        ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.orig_rax), (long)SYS_exit);
#endif
    resume(tid, status, true);
}

/* A thread cannot be killed. It ends at its next system call, or at the one that it restarts after
 * an interruption. The held thread is resumed before that only if the victim seems to wait for it.
 * */
bool end_thread(pid_t victim, pid_t held, int held_status)
{
    int status;
    pid_t tid;
    int64_t until = now_ms() + FOR_A_THREAD;
    bool holding = held != victim;
    if (!holding)
        resume_to_exit(held, held_status);
    while (now_ms() < until) {
        ptrace(PTRACE_INTERRUPT, victim, 0, 0);
        while ((tid = next_stop(&status, now_ms() + A_WHILE)) > 0) {
            if (tid == victim && !WIFSTOPPED(status)) {
                if (holding)
                    resume(held, held_status, true);
                return true;
            }
            if (!WIFSTOPPED(status))
                continue;
            note_stop(tid, status);
            if (tid == victim)
                resume_to_exit(tid, status);
            else
                resume(tid, status, true);
        }
        if (holding && now_ms() > until - FOR_A_THREAD / 2) {
            resume(held, held_status, true);
            holding = false;
        }
    }
    return false;
}
