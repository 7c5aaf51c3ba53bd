/* The parent-death signal is sent with the dying parent's credentials, and lost where those do not allow
 * it (kernel/signal.c, check_kill_permission). */
#include "../proc/proc.h"
#include "base.h"

#include <stdio.h>
#include <stdlib.h>

enum { CAP_KILL_BIT = 5 };

static bool is_ours(unsigned uid)
{
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    return uid == real || uid == saved;
}

int pds_parent_may_signal(void)
{
    char path[32];
    int parent = pds_parent();
    if (parent == 0)
        return 1; /* outside our PID namespace: /proc does not show it */
    if (!proc_is_ours())
        return 0;
    snprintf(path, sizeof path, "/proc/%d/status", parent);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    char *line = NULL;
    size_t room = 0;
    unsigned real, effective;
    unsigned long long capabilities;
    int may = 0;
    while (!may && getline(&line, &room, file) > 0) {
        if (sscanf(line, "Uid: %u %u", &real, &effective) == 2)
            may = is_ours(real) || is_ours(effective);
        else if (sscanf(line, "CapEff: %llx", &capabilities) == 1) {
            may = capabilities >> CAP_KILL_BIT & 1;
            break;
        }
    }
    free(line);
    fclose(file);
    return may;
}
