/* The parent-death signal is sent with the dying parent's credentials. It is lost where those do
 * not allow it (kernel/signal.c, check_kill_permission). */
#include "../proc/proc.h"
#include "base.h"

#include <stdio.h>

enum { CAP_KILL_BIT = 5 };

static bool is_ours(unsigned uid)
{
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    return uid == real || uid == saved;
}

static bool note_permission(void *may, const char *line, size_t length)
{
    unsigned real, effective;
    unsigned long long capabilities;
    (void)length;
    if (sscanf(line, "Uid: %u %u", &real, &effective) == 2)
        *(int *)may = is_ours(real) || is_ours(effective);
    else if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
        *(int *)may = capabilities >> CAP_KILL_BIT & 1;
    return !*(int *)may;
}

int pds_parent_may_signal(void)
{
    char path[32];
    int parent = pds_parent(), may = 0;
    if (parent == 0)
        return 1; /* outside our PID namespace: /proc does not show it */
    snprintf(path, sizeof path, "/proc/%d/status", parent);
    if (proc_is_ours())
        pds_each_line(path, note_permission, &may);
    return may;
}
