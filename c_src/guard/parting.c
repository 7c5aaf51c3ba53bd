/* --linger: what the command leaves behind, a server that it started in the background, lives on while the caller does.
 *
 * The caller waits for the outer process, so that ends. The inner one stays: nobody else can be the reaper of those who
 * are left, and nobody is the reaper of what it would leave if it were killed. */
#include "guard.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Not if all that tells of the caller's death is the outer one's parent-death signal. */
void allow_parting(struct guard *guard)
{
    if (!guard->options.linger || guard->options.scope == SCOPE_CHILD || guard->by_signal)
        return;
    long at = sys6(SYS_mmap, 0, sizeof *guard->parting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        fail(guard, (int)-at, "mmap");
    guard->parting = (struct parting *)at;
}

bool may_part(struct guard *guard)
{
    return guard->parting != NULL && guard->child_ended && !nothing_left(guard);
}

void part(struct guard *guard)
{
    sys2(SYS_prctl, PR_SET_PDEATHSIG, 0);
    guard->parting->status = guard->status;
    __atomic_store_n(&guard->parting->said, true, __ATOMIC_RELEASE);
    sys2(SYS_kill, guard->outer, NEWS);
    guard->outer = 0; /* its PID may soon be another's */
}

bool has_parted(const struct guard *guard)
{
    return guard->parting != NULL && __atomic_load_n(&guard->parting->said, __ATOMIC_ACQUIRE);
}
