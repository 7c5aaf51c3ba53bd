/* Threads: the lock that the rooms share, and a native thread that lasts as long as the process. */
#include "base.h"

pthread_mutex_t pds_lock = PTHREAD_MUTEX_INITIALIZER;

int pds_start_thread(pthread_t *thread, size_t stack_size, void *(*run)(void *), void *argument)
{
    size_t usual;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_getstacksize(&attributes, &usual);
    pthread_attr_setstacksize(&attributes, stack_size);
    int error = pthread_create(thread, &attributes, run, argument);
    if (error == EINVAL) { /* a library's thread-local storage does not fit */
        pthread_attr_setstacksize(&attributes, usual);
        error = pthread_create(thread, &attributes, run, argument);
    }
    pthread_attr_destroy(&attributes);
    return error != 0 ? pds_fail(error, "pthread_create") : 0;
}
