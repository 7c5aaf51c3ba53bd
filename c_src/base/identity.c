/* Which process is our parent.
 *
 * getppid() alone cannot say whether the parent died before we asked. In a container PID 1 can be
 * the legitimate parent; on a desktop orphans go to `systemd --user`. So the answer is fixed early:
 * by the forking process just before it forks, else when this code is loaded. */
#include "base.h"

static pid_t forker;
static bool forked_on_main;
static struct {
    pid_t self; /* the process that the two other fields are about */
    pid_t parent;
    int source;
} us;

static void remember(int source)
{
    us.self = getpid();
    us.parent = getppid();
    us.source = source;
}

/* A raw clone(2) runs no at-fork handlers: what is remembered then is still another process's. */
static bool remembered(void)
{
    return us.self == getpid();
}

void pds_identity_before_fork(void)
{
    forker = getpid();
    forked_on_main = pds_on_main_thread();
}

void pds_identity_after_fork_in_child(void)
{
    remember(PDS_FORKED_BY);
    if (us.parent != 0) /* 0: the child is in a new PID namespace, where the forker has no PID */
        us.parent = forker;
}

int pds_parent(void)
{
    if (!remembered())
        remember(PDS_SEEN_AT_LOAD);
    return us.parent;
}

int pds_forked_on_main(void)
{
    return forked_on_main;
}

int pds_parent_source(void)
{
    pds_parent();
    return us.source;
}

bool pds_orphaned(pid_t parent)
{
    return getppid() != parent && remembered();
}

bool pds_parent_is_gone(void)
{
    return pds_orphaned(us.parent);
}
