/* The room below the rooms: which call failed, which process is the parent, the lifeline. */
#ifndef PDEATHSIG_BASE_H
#define PDEATHSIG_BASE_H

#include "../pdeathsig.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* For functions that run between vfork and exec (the rules: spawn/child.c). Sanitizers keep books
 * of the stack, which that child never unwinds. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

/* The main thread lasts as long as the process. Async-signal-safe. */
static inline bool pds_on_main_thread(void)
{
    return syscall(SYS_gettid) == getpid();
}

/* Whether that is the action: SIG_DFL or SIG_IGN. Async-signal-safe. */
static inline bool pds_action_is(const struct sigaction *action, void (*handler)(int))
{
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == handler;
}

/* files.c */
struct stat;
bool pds_is_file(int fd, const struct stat *file); /* async-signal-safe */

/* failed.c: remember which call failed; returns -error. */
int pds_fail(int error, const char *call);

/* thread.c. The lock is held while what is armed, the lifeline or what system(3) ignores changes.
 * A fork waits for it (init.c); no signal handler takes it. */
extern pthread_mutex_t pds_lock;
int pds_start_thread(pthread_t *thread, size_t stack_size, void *(*run)(void *), void *argument);

/* identity.c */
bool pds_orphaned(pid_t parent); /* async-signal-safe */
bool pds_parent_is_gone(void);
void pds_identity_before_fork(void);
void pds_identity_after_fork_in_child(void);

/* lifeline.c */
int pds_inherited_lifeline(void); /* in a forked child; -ENODATA: none was wanted */
int pds_lifeline_follow(int lifeline, int sig, bool group);
void pds_lifeline_before_fork(void);
void pds_lifeline_after_fork_in_child(void);

#endif
