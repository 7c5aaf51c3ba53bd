/* What the library does around a fork of this process, for all rooms in one place.
 *
 * The state of the process is in static variables of the file that owns it. In a forked child:
 *
 *   base/identity.c         our parent: the process that forked us, noted just before
 *   base/lifeline.c         the write end is closed; where an exec will need it, a read end is kept
 *   arm/                    nothing is armed, and there is no watcher thread
 *   spawn/spawner_threads.c there are none
 *   spawn/system.c          no thread is in system(3)
 *
 * A fork waits for the lock that the rooms share. The child does not unlock it but initializes it
 * anew. fork(2) runs these handlers; a raw clone(2),
 * vfork(2) and posix_spawn(3) do not. So identity.c and spawner_threads.c compare PIDs as well. */
#include "../arm/arm.h"
#include "../base/base.h"
#include "../spawn/spawn.h"

static void before_fork(void)
{
    pthread_mutex_lock(&pds_lock);
    pds_lifeline_before_fork();
    pds_identity_before_fork();
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&pds_lock);
}

/* The identity comes first: the lifeline asks it. */
static void after_fork_in_child(void)
{
    pthread_mutex_init(&pds_lock, NULL);
    pds_identity_after_fork_in_child();
    pds_arm_after_fork_in_child();
    pds_spawner_threads_after_fork_in_child();
    pds_lifeline_after_fork_in_child();
    pds_system_after_fork_in_child();
}

int pds_init(void)
{
    static bool done;
    if (done)
        return 0;
    pds_parent();
    int error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (error != 0)
        return pds_fail(error, "pthread_atfork");
    done = true;
    return 0;
}
