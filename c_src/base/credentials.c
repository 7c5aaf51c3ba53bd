/* The parent-death signal is sent with the dying parent's credentials. It is lost where those do
 * not allow it (kernel/signal.c, check_kill_permission). */
#include "../proc/proc.h"
#include "base.h"

#include <stdio.h>
#include <string.h>

enum { CAP_KILL_BIT = 5 };

static bool is_ours(unsigned uid)
{
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    return uid == real || uid == saved;
}

int pds_parent_may_signal(void)
{
    char path[PROC_PATH_SIZE], text[PROC_BLOCK];
    unsigned real, effective;
    unsigned long long capabilities;
    int parent = pds_parent();
    if (parent == 0)
        return 1; /* outside our PID namespace: /proc does not show it */
    proc_path(path, parent, "/status");
    if (!proc_is_ours() || proc_read(path, text, sizeof text) <= 0)
        return 0;
    const char *ids = strstr(text, "\nUid:"), *effective_set = strstr(text, "\nCapEff:");
    if (ids != NULL && sscanf(ids, "\nUid: %u %u", &real, &effective) == 2 && (is_ours(real) || is_ours(effective)))
        return 1;
    return effective_set != NULL && sscanf(effective_set, "\nCapEff: %llx", &capabilities) == 1 &&
           capabilities >> CAP_KILL_BIT & 1;
}
