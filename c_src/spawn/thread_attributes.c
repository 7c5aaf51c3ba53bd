/* The attributes of a thread: what a child takes over from the *thread* that creates it and cannot
 * simply be given. These are credentials, capabilities, seccomp filters, namespaces, scheduling
 * policy, personality, NUMA policy and timer slack. Where a thread has unshared them, its working
 * directory and its descriptor table too.
 *
 * As the kernel shows them: proc_pid_status(5), namespaces(7), sched_getattr(2). Without /proc,
 * threads are taken to be alike in what only /proc tells. Nothing tells of Landlock rules, nor
 * which of two seccomp filters a thread has: in these, threads are always taken to be alike. */
#include "spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>

enum { KCMP_FILES_ = 2, KCMP_FS_ = 3, NUMA_NODES_MAX = 1024 };

static void mix(uint64_t *digest, const void *bytes, size_t length)
{
    for (const unsigned char *byte = bytes; length > 0; byte++, length--) /* FNV-1a */
        *digest = (*digest ^ *byte) * 0x100000001b3U;
}

static bool begins(const char *line, const char *name)
{
    return strncmp(line, name, strlen(name)) == 0;
}

static bool is_attribute(const char *line)
{
    return begins(line, "Uid:") || begins(line, "Gid:") || begins(line, "Groups:") || begins(line, "Cap") ||
           begins(line, "NoNewPrivs:") || begins(line, "Seccomp") || begins(line, "Speculation");
}

static void mix_status(uint64_t *digest)
{
    FILE *file = fopen("/proc/thread-self/status", "re");
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    while (file != NULL && (length = getline(&line, &size, file)) > 0) {
        if (is_attribute(line))
            mix(digest, line, (size_t)length);
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

static void mix_namespaces(uint64_t *digest)
{
    static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "uts"};
    int directory = open("/proc/thread-self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char link[64];
        ssize_t n = readlinkat(directory, kinds[i], link, sizeof link);
        if (n > 0)
            mix(digest, link, (size_t)n);
    }
    close(directory);
}

static void mix_scheduling(uint64_t *digest)
{
    enum { NICE = 4 };
    uint32_t attributes[14] = {0}; /* struct sched_attr, sched_getattr(2) */
    if (syscall(SYS_sched_getattr, 0, attributes, sizeof attributes, 0) == 0) {
        attributes[NICE] = 0;
        mix(digest, attributes, sizeof attributes);
    }
    int mode = 0;
    unsigned long nodes[NUMA_NODES_MAX / 8 / sizeof(unsigned long)] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, NUMA_NODES_MAX, NULL, 0) == 0) {
        mix(digest, &mode, sizeof mode);
        mix(digest, nodes, sizeof nodes);
    }
    int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), persona = personality(0xffffffff);
    mix(digest, &slack, sizeof slack);
    mix(digest, &persona, sizeof persona);
}

/* Much of that is in /proc too, but there may be no /proc, or no descriptor left to open it. */
static void mix_credentials(uint64_t *digest)
{
    uint32_t ids[6] = {0}, groups[256];
    uint32_t header[] = {0x20080522, 0}; /* _LINUX_CAPABILITY_VERSION_3, this thread */
    uint32_t capabilities[6] = {0};
    syscall(SYS_getresuid, &ids[0], &ids[1], &ids[2]);
    syscall(SYS_getresgid, &ids[3], &ids[4], &ids[5]);
    mix(digest, ids, sizeof ids);
    long count = syscall(SYS_getgroups, sizeof groups / sizeof *groups, groups);
    if (count > 0)
        mix(digest, groups, (size_t)count * sizeof *groups);
    if (syscall(SYS_capget, header, capabilities) == 0)
        mix(digest, capabilities, sizeof capabilities);
    int rest[] = {prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS, 0, 0, 0, 0),
                  prctl(PR_GET_SECCOMP, 0, 0, 0, 0)};
    mix(digest, rest, sizeof rest);
}

uint64_t pds_thread_attributes(void)
{
    uint64_t digest = 0xcbf29ce484222325U;
    mix_credentials(&digest);
    mix_status(&digest);
    mix_namespaces(&digest);
    mix_scheduling(&digest);
    return digest;
}

bool pds_thread_shares_files(pid_t thread)
{
    long self = syscall(SYS_gettid);
    /* An error says that kcmp(2) is denied; then unshare(2) is denied as well. */
    return syscall(SYS_kcmp, self, thread, KCMP_FS_, 0, 0) <= 0 &&
           syscall(SYS_kcmp, self, thread, KCMP_FILES_, 0, 0) <= 0;
}
