/* From the first instruction to the two processes. */
#include "guard.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

static void inspect_inherited_state(struct guard *guard)
{
    unsigned long action[8] = {0};
    guard->mask = set_mask(~(uint64_t)0);
    sys4(SYS_rt_sigaction, SIGCHLD, NULL, action, sizeof(uint64_t));
    guard->sigchld_was_ignored = action[0] == (unsigned long)SIG_IGN;
    if (guard->sigchld_was_ignored)
        set_default_action(SIGCHLD); /* or the kernel would reap the command itself (wait(2)) */
    open_stderr(guard, STDERR_FILENO, guard->options.verbose);
}

static int run(char **arguments, char **environment)
{
    struct guard guard = {
        .environment = environment, .followed = {-1, -1, -1}, .reaper_pipe = {-1, -1}, .stderr_fd = -1};
    read_options(&guard, arguments);
    inspect_inherited_state(&guard);
    sys2(SYS_prctl, PR_SET_NAME, "pdeathsig-run"); /* an exec by descriptor names it otherwise */
    guard.monitor = (pid_t)sys0(SYS_getpid);
    guard.group = (pid_t)sys1(SYS_getpgid, 0);
    guard.session = (pid_t)sys1(SYS_getsid, 0);
    receive_executables(&guard);
    follow_processes(&guard);
    share_command_end(&guard);
    if (guard.options.scope != SCOPE_CHILD)
        prctl_or_fail(&guard, PR_SET_CHILD_SUBREAPER, 1);
    if (open_descriptor(&guard, SYS_pipe2, (long)guard.reaper_pipe, O_CLOEXEC, 0, 0) < 0)
        guard.reaper_pipe[0] = guard.reaper_pipe[1] = -1;
    note_early_signals(&guard);
    long reaper = sys5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (reaper < 0)
        fail(&guard, (int)-reaper, "fork");
    if (reaper == 0)
        be_reaper(&guard);
    guard.reaper = (pid_t)reaper;
    be_monitor(&guard);
}

#ifdef PDS_FREESTANDING
/* argc, the arguments, NULL, the environment, NULL: as the kernel puts them on the stack. */
__attribute__((used)) _Noreturn static void begin(long *stack)
{
    char **arguments = (char **)(stack + 1);
    exit_with(run(arguments, arguments + stack[0] + 1));
}

__asm__(".globl _start\n"
        "_start:\n\t"
        "xor %ebp, %ebp\n\t"
        "mov %rsp, %rdi\n\t"
        "and $-16, %rsp\n\t"
        "call begin\n");

/* The compiler calls these two for assignments and initial values. */
void *memset(void *to, int byte, size_t length)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
    return start;
}

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return start;
}
#else
int main(int argc, char **arguments)
{
    return run(arguments, arguments + argc + 1);
}
#endif
