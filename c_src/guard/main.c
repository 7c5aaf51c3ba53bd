/* pdeathsig-run: see guard.h. */
#include "guard.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

static void look_at_what_we_inherit(struct guard *guard)
{
    unsigned long action[8] = {0};
    guard->mask = set_mask(~(uint64_t)0);
    sys4(SYS_rt_sigaction, SIGCHLD, NULL, action, sizeof(uint64_t));
    guard->sigchld_was_ignored = action[0] == (unsigned long)SIG_IGN;
    if (guard->sigchld_was_ignored)
        set_default(SIGCHLD); /* or the kernel would reap the command for us, and nobody would know how it ended */
    guard->error_path = (int)with_room(guard, SYS_openat, AT_FDCWD, (long)"/proc/self/fd/2", O_PATH | O_CLOEXEC, 0);
}

static int run(char **arguments, char **environment)
{
    struct guard guard = {.environment = environment, .followed = {-1, -1, -1}, .pulse = {-1, -1}, .error_path = -1};
    read_options(&guard, arguments);
    look_at_what_we_inherit(&guard);
    sys2(SYS_prctl, PR_SET_NAME, "pdeathsig-run"); /* it may have been executed by descriptor */
    guard.outer = (pid_t)sys0(SYS_getpid);
    guard.group = (pid_t)sys1(SYS_getpgid, 0);
    guard.session = (pid_t)sys1(SYS_getsid, 0);
    receive_executables(&guard);
    follow_those_who_asked(&guard);
    allow_parting(&guard);
    if (guard.options.scope != SCOPE_CHILD)
        must_prctl(&guard, PR_SET_CHILD_SUBREAPER, 1);
    if (with_room(&guard, SYS_pipe2, (long)guard.pulse, O_CLOEXEC, 0, 0) < 0)
        guard.pulse[0] = guard.pulse[1] = -1;
    note_early(&guard);
    long inner = sys5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (inner < 0)
        fail(&guard, (int)-inner, "fork");
    if (inner == 0)
        be_inner(&guard);
    guard.inner = (pid_t)inner;
    be_outer(&guard);
}

#ifdef PDS_FREESTANDING
/* argc, the arguments, NULL, the environment, NULL: as the kernel puts them on the stack. */
__attribute__((used)) _Noreturn static void begin(long *stack)
{
    char **arguments = (char **)(stack + 1);
    leave(run(arguments, arguments + stack[0] + 1));
}

__asm__(".globl _start\n"
        "_start:\n\t"
        "xor %ebp, %ebp\n\t"
        "mov %rsp, %rdi\n\t"
        "and $-16, %rsp\n\t"
        "call begin\n");

/* What the compiler may call on its own account. */
void *memset(void *to, int byte, size_t length)
{
    void *begin_of_it = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
    return begin_of_it;
}

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
    void *begin_of_it = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return begin_of_it;
}
#else
int main(int argc, char **arguments)
{
    return run(arguments, arguments + argc + 1);
}
#endif
