/* The clone: a child that shares our memory, on a stack of its own, while we are suspended. */
#include "../proc/proc.h"
#include "spawn.h"

#include <sched.h>
#include <string.h>

#define CLEAR_SIGHAND 0x100000000U /* CLONE_CLEAR_SIGHAND, Linux 5.5 */

IN_CHILD static int child(void *argument)
{
    struct spawning *spawning = argument;
    spawning->settled = true;
    spawning->become(spawning);
    syscall(SYS_exit_group, spawning->posix != NULL ? 127 : 255);
    return 255;
}

/* clone3(2) can have all handlers dropped by the kernel, which spares the child 64 calls of
 * rt_sigaction(2). libc has no function for it, and a child on a stack of its own cannot return
 * from syscall(3). So it is here, for the architecture that it was run on. */
static long clone_without_handlers(struct spawning *spawning, char *stack)
{
    struct { /* clone3(2), the first version */
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {.flags = CLONE_VM | CLONE_VFORK | CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    arguments.stack = (uintptr_t)stack;
    arguments.stack_size = CHILD_STACK;
    spawning->handlers_dropped = true;
    long pid = -ENOSYS;
#if defined __x86_64__ && defined __LP64__
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[argument], %%rdi\n\t"
                     "call *%[function]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(pid)
                     : "a"((long)SYS_clone3), "D"(&arguments),
                       "S"(sizeof arguments), [function] "r"(child), [argument] "r"(spawning)
                     : "rcx", "r11", "cc", "memory");
#endif
    if (pid < 0)
        spawning->handlers_dropped = false;
    return pid;
}

/* The memory of the child's stack is ours. All signals are blocked meanwhile, libc's own too. */
int pds_clone(struct spawning *spawning)
{
    _Alignas(64) char stack[CHILD_STACK];
    pid_t pid = -1;
    sigset_t all, before = {0};
    memset(&all, 0xff, sizeof all); /* sigfillset(3) leaves out those that libc uses itself */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, _NSIG / 8);
    errno = EINVAL;
    if (spawning->share_memory)
        pid = (pid_t)clone_without_handlers(spawning, stack);
    if (pid < 0 && spawning->share_memory)
        pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, spawning);
    if (pid < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM))
        pid = clone(child, stack + sizeof stack, (spawning->posix != NULL ? CLONE_VFORK : 0) | SIGCHLD,
                    spawning); /* as in another time namespace (bpo-47151) */
    int error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, _NSIG / 8);
    return pid < 0 ? pds_fail(error, "clone") : pid;
}
