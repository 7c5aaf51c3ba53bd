#include "sweep.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Milliseconds. */
enum { TO_THE_POINT = 60000, TO_DIE = 20000, TO_BE_QUIET = 1000, TO_SETTLE = 300, AT_ONCE = 100, SILENCE = 20 };
enum { AT_MOST = 120 }; /* seconds */

static int trouble(const char *what)
{
    int stopped = 0;
    printf("    trouble: %s: %s\n", what, strerror(errno));
    kill(driver, SIGKILL);
    end_survivors(what, &stopped);
    return TROUBLE;
}

static int64_t patience(void)
{
    const char *ms = getenv("PATIENCE");
    return now_ms() + (ms != NULL ? atoi(ms) : blind ? TO_SETTLE : TO_DIE);
}

/* Kills the victim, and detaches from all others. False: the victim does not die. */
static bool end_process(pid_t victim, pid_t held, int held_status)
{
    int status;
    pid_t tid;
    int64_t until = now_ms() + TO_DIE;
    kill(victim, SIGKILL);
    while ((tid = next_stop(&status, until)) > 0) {
        if (tid == victim && !WIFSTOPPED(status)) {
            if (held != victim)
                resume(held, held_status, false);
            interrupt_stopped();
            return true;
        }
        if (WIFSTOPPED(status))
            resume(tid, status, false);
    }
    return false;
}

static bool trace_one(int64_t until)
{
    int status;
    pid_t tid = next_stop(&status, until);
    if (tid > 0 && WIFSTOPPED(status)) {
        note_stop(tid, status);
        resume(tid, status, true);
    }
    return tid > 0;
}

/* Goes on tracing until every leaf is ready, or no leaf can come any more. Returns the PID of a
 * process that died; -1: a leaf did not become ready; 0: neither. */
static pid_t find_false_kill(void)
{
    int64_t until = patience(), quiet_until = now_ms() + TO_BE_QUIET;
    while (died_early() == 0 && !all_leaves_are_ready() && now_ms() < until) {
        if (child_was_born())
            trace_one(until);
        else if (now_ms() > quiet_until || (!trace_one(now_ms()) && driver_is_quiet()))
            break; /* time counts too, because a driver that waits for a lost GIL is never quiet */
    }
    for (until = now_ms() + AT_ONCE; now_ms() < until && trace_one(now_ms() + SILENCE);)
        ; /* deaths that follow from the end of the thread */
    return died_early() != 0 ? died_early() : all_leaves_are_ready() || !child_was_born() ? 0 : -1;
}

static int end_of_all(const char *where, int before)
{
    int status, stopped = 0;
    pid_t tid;
    kill(driver, SIGKILL);
    int64_t until = patience();
    while ((tid = next_stop(&status, until)) > 0) {
        if (WIFSTOPPED(status))
            resume(tid, status, false);
        else if (tid == driver)
            until = patience();
    }
    int survivors = before + end_survivors(where, &stopped);
    printf("%s%s%s%s\n", survivors > 0 || tid == 0 ? "survivors " : "", stopped > 0 ? "stopped " : "",
           reached_end ? "end " : "", blind ? "blind " : "");
    return 0;
}

static int absent(void)
{
    int status;
    pid_t tid;
    int64_t until = now_ms() + TO_DIE;
    int stopped = 0;
    kill(driver, SIGKILL);
    while ((tid = next_stop(&status, until)) > 0 && tid != driver) {
        if (WIFSTOPPED(status))
            resume(tid, status, false);
    }
    end_survivors("absent", &stopped);
    printf("absent %s\n", reached_end ? "end" : "");
    return 0;
}

/* Waits until the driver has dealt with the victim's death. */
static void await_quiet_driver(void)
{
    int status;
    pid_t tid;
    for (int64_t until = now_ms() + TO_BE_QUIET; now_ms() < until;) {
        while ((tid = next_stop(&status, now_ms())) > 0) {
            if (WIFSTOPPED(status))
                resume(tid, status, false);
        }
        if (driver_is_quiet())
            return;
    }
}

static int at_the_point(pid_t held, int held_status)
{
    char where[128];
    describe(held, held_status, where, sizeof where);
    struct task *victim = find_victim();
    const char *then = getenv("THEN");
    if (victim == NULL)
        return absent();
    if (victim->tid != victim->process) {
        if (!end_thread(victim->tid, held, held_status))
            return trouble("the thread does not end");
        pid_t dead = then != NULL && strcmp(then, "lives") == 0 ? find_false_kill() : 0;
        if (dead != 0)
            printf("    false kill: %d; thread ended at: %s\nfalse-kill ", dead, where);
        return end_of_all(where, 0);
    }
    if (!end_process(victim->tid, held, held_status))
        return trouble("the victim does not die");
    if (victim->tid == driver)
        return end_of_all(where, 0);
    int left = 0;
    if (then != NULL && strcmp(then, "gone") == 0) {
        left = !all_gone_but_driver(patience());
        if (left)
            printf("    survivors beside the driver; killed at: %s\n", where);
    } else {
        await_quiet_driver();
    }
    return end_of_all(where, left);
}

static int run_to(long k)
{
    int status;
    pid_t tid;
    bool only_look = k == 0;
    int64_t until = now_ms() + TO_THE_POINT;
    while ((tid = next_stop(&status, until)) > 0) {
        if (WIFSTOPPED(status)) {
            bool boundary = note_stop(tid, status);
            if (boundary && only_look && !reached_end)
                putchar(letter(tid));
            if (boundary && (--k == 0 || reached_end))
                return only_look ? (putchar('\n'), absent()) : at_the_point(tid, status);
            resume(tid, status, true);
        } else if (tid == driver) {
            return trouble("the driver ended by itself");
        }
    }
    return trouble("it does not get there");
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* a leaf */
        close(END);
        pause();
    }
    if (argc != 4)
        return TROUBLE;
    driver = (pid_t)strtol(argv[2], NULL, 10);
    blind = getenv("BLIND") != NULL;
    alarm(AT_MOST);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    long options =
        PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, driver, 0, options) < 0 || ptrace(PTRACE_INTERRUPT, driver, 0, 0) < 0) {
        trouble("ptrace");
        return DENIED;
    }
    close((int)strtol(argv[3], NULL, 10));
    return run_to(strtol(argv[1], NULL, 10));
}
