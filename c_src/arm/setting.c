/* The kernel's setting (PR_SET_PDEATHSIG, prctl(2)). It belongs to the thread that made it and ends
 * with that thread. So one of two threads that last as long as the process holds it. The main
 * thread holds what it arms itself, the watcher thread what any other thread arms. */
#include "arm.h"

enum holder { MAIN, WATCHER };
static int held[2]; /* the setting on each of the two; 0: none */

int pds_carrier_prepare(int avoid)
{
    int sig = pds_carrier_install(avoid);
    if (sig < 0 || sig == pds_carrier())
        return sig;
    int r = pds_watcher_listen(sig);
    if (r < 0)
        return r;
    pds_carrier_use(sig);
    return sig;
}

static int setting_on(enum holder holder, int sig)
{
    if (holder == MAIN && pds_on_main_thread()) {
        int r = pds_thread_setting(sig);
        return r < 0 ? pds_fail(-r, "prctl") : r;
    }
    int carrier = pds_carrier_prepare(0);
    if (carrier < 0)
        return carrier;
    return holder == MAIN ? pds_main_thread_setting(carrier, sig) : pds_watcher_setting(sig);
}

static int set_on(enum holder holder, int sig)
{
    int r = setting_on(holder, sig);
    if (r >= 0)
        held[holder] = sig;
    return r;
}

static int release(enum holder holder)
{
    int r = held[holder] == 0 ? 0 : set_on(holder, 0);
    /* With nothing armed, the handler ignores the carrier. Any other signal would still kill. */
    return r < 0 && held[holder] == pds_carrier() ? 0 : r;
}

int pds_setting_hold(int sig)
{
    enum holder here = pds_on_main_thread() ? MAIN : WATCHER;
    int before = held[here];
    int r = sig == 0 ? release(here) : set_on(here, sig);
    if (r < 0)
        return r;
    r = release(here == MAIN ? WATCHER : MAIN);
    if (r < 0) {
        const char *call = pds_failed_call();
        set_on(here, before);
        return pds_fail(-r, call);
    }
    return 0;
}

/* sig -1: it could not be asked. */
void pds_setting_status(int *sig, int *holder)
{
    enum holder last = held[WATCHER] != 0 ? WATCHER : MAIN;
    *holder = held[last] == 0 ? 0 : last == WATCHER ? pds_watcher_tid() : getpid();
    *sig = setting_on(last, ASK);
    if (*sig < 0)
        *sig = -1;
}

void pds_setting_after_fork_in_child(void)
{
    held[MAIN] = held[WATCHER] = 0;
}
