/* The parent-death signal across an exec: the handler ends, the setting and a lifeline go on. */
#include "arm.h"

#include <fcntl.h>

/* What pds_exec_begins has changed, in case the exec fails. */
static struct {
    bool changed;
    int lifeline; /* < 0: none */
    struct disposition disposition;
} begun;

int pds_preexec(int sig)
{
    struct disposition before;
    pds_arming_publish(NULL);
    pds_make_deliverable(sig, 0, true, &before);
    int r = pds_thread_setting(sig);
    return r < 0 ? pds_fail(-r, "prctl") : pds_parent_is_gone();
}

int pds_exec_begins(int sig)
{
    const struct arming *now = pds_arming_now();
    int lifeline = pds_inherited_lifeline();
    bool on_main = pds_forked_on_main();
    begun.changed = false;
    if (now == NULL || now->parent <= 0 || now->parent != pds_parent() || (lifeline == -ENODATA && !on_main))
        return 0;
    if (lifeline < 0 && lifeline != -ENODATA)
        return pds_parent_is_gone() ? 1 : pds_fail(-lifeline, "open");
    begun.changed = true;
    begun.lifeline = lifeline;
    pds_make_deliverable(sig, 0, true, &begun.disposition);
    int hung_up = lifeline >= 0 ? pds_lifeline_follow(lifeline, sig, false) : 0;
    if (hung_up < 0)
        return pds_fail(-hung_up, "fcntl");
    if (lifeline >= 0)
        fcntl(lifeline, F_SETFD, 0);
    int r = pds_thread_setting(on_main ? sig : 0);
    return r < 0 ? pds_fail(-r, "prctl") : hung_up > 0 || pds_parent_is_gone();
}

int pds_exec_failed(void)
{
    if (!begun.changed)
        return 0;
    if (begun.lifeline >= 0) {
        fcntl(begun.lifeline, F_SETFD, FD_CLOEXEC);
        fcntl(begun.lifeline, F_SETFL, O_NONBLOCK);
    }
    pds_restore_disposition(&begun.disposition);
    return 0;
}
