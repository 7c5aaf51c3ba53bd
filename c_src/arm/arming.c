/* What is armed, and which code path delivers it.
 *
 * The carrier's handler, the watcher thread and the check after arming may all see the same death.
 * The one that swaps the arming out delivers it; the others find that it is gone. */
#include "arm.h"

#include <stdatomic.h>

static struct arming slots[2]; /* a handler may still read one while the next is filled in */
static const struct arming *last = &slots[0];
static _Atomic(const struct arming *) armed;
static atomic_bool claimed;

struct arming *pds_arming_fill(int sig, int64_t grace_ns, pid_t parent, const char *notice)
{
    struct arming *next = last == &slots[0] ? &slots[1] : &slots[0];
    *next = (struct arming){.sig = sig, .grace_ns = grace_ns, .parent = parent};
    pds_notice_set(&next->notice, notice);
    return next;
}

void pds_arming_publish(const struct arming *next)
{
    if (next == NULL) {
        atomic_store(&armed, NULL);
        atomic_store(&claimed, false);
        return;
    }
    last = next;
    atomic_store(&claimed, false); /* first: the next one may be claimed at once */
    atomic_store(&armed, next);
}

const struct arming *pds_arming_last(void)
{
    return last;
}

const struct arming *pds_arming_now(void)
{
    return atomic_load(&armed);
}

bool pds_arming_claim(const struct arming *arming)
{
    const struct arming *expected = arming;
    if (arming == NULL || !atomic_compare_exchange_strong(&armed, &expected, NULL))
        return false;
    atomic_store(&claimed, true);
    return true;
}

bool pds_arming_was_claimed(void)
{
    return atomic_load(&claimed);
}
