/* Which call failed: an errno alone does not say. Python puts it into the OSError. */
#include "base.h"

static _Thread_local const char *failed_call = "";

int pds_fail(int error, const char *call)
{
    failed_call = call;
    return -error;
}

const char *pds_failed_call(void)
{
    return failed_call;
}
