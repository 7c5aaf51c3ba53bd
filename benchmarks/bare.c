/* The two bare system calls that arming needs, for benchmarks/arm.py to compare with. For every
 * number that it reads, it makes them so many times and prints the nanoseconds of processor time.
 * */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long loop(long n, pid_t parent)
{
    long long start = now();
    for (long i = 0; i < n; i++)
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(1);
    return now() - start;
}

int main(void)
{
    long n;
    pid_t parent = getppid();
    while (scanf("%ld", &n) == 1) {
        loop(n / 10, parent); /* warms up after the sleep since the last round */
        printf("%lld\n", loop(n, parent));
        fflush(stdout);
    }
    return 0;
}
