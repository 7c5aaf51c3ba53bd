/* System calls, text, and processes as /proc shows them. Shared by the library and the guard, which
 * has no libc: a start takes half the time so, and a waiting process a few kilobytes. So here are
 * system calls only, and memory from mmap(2) only. Results are >= 0, or -errno. */
#ifndef PDEATHSIG_PROC_H
#define PDEATHSIG_PROC_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* ---- System calls, made directly. In the library, by syscall(2) of libc. ---- */

/* What old headers lack: the numbers are the same on all architectures but alpha. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* 32-bit architectures have two of some: the first took IDs of 16 bits, or file offsets of 32. */
#ifdef SYS_fcntl64
#define FCNTL SYS_fcntl64
#else
#define FCNTL SYS_fcntl
#endif
#ifdef SYS_setgroups32
#define SETGROUPS SYS_setgroups32
#define SETREGID SYS_setregid32
#define SETREUID SYS_setreuid32
#define SETRESGID SYS_setresgid32
#define SETRESUID SYS_setresuid32
#else
#define SETGROUPS SYS_setgroups
#define SETREGID SYS_setregid
#define SETREUID SYS_setreuid
#define SETRESGID SYS_setresgid
#define SETRESUID SYS_setresuid
#endif

#if defined PDS_FAKE_KERNEL /* tests/fuzz */
static long sys6(long n, long a, long b, long c, long d, long e, long f);
#elif defined PDS_FREESTANDING
#if !defined __x86_64__ || !defined __LP64__
#error "no system call here"
#endif
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#else
#include <unistd.h>

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(n, a, b, c, d, e, f);
    return result == -1 ? -errno : result;
}
#endif

#define sys0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys5(n, a, b, c, d, e) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* ---- Text, into a buffer that is known to be large enough. ---- */

/* Returns where the next goes. */
static inline char *add_text(char *at, const char *text)
{
    while (*text != '\0')
        *at++ = *text++;
    *at = '\0';
    return at;
}

static inline char *add_number(char *at, uint64_t number)
{
    char digits[24];
    char *start = digits + sizeof digits - 1;
    *start = '\0';
    do
        *--start = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return add_text(at, start);
}

/* The number that begins there; *text is then behind it. */
static inline uint64_t number_at(const char **text)
{
    uint64_t number = 0;
    while (**text >= '0' && **text <= '9')
        number = number * 10 + (uint64_t)(*(*text)++ - '0');
    return number;
}

static inline size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

static inline int same_text(const char *a, const char *b, int length)
{
    while (length > 0 && *a == *b)
        a++, b++, length--;
    return length == 0;
}

/* The text after this one, or the end. */
static inline const char *after_text(const char *at, const char *end)
{
    while (at < end && *at != '\0')
        at++;
    return at < end ? at + 1 : end;
}

/* ---- process.c: one process. ---- */

/* Of proc_pid_stat(5). */
struct process {
    pid_t pid, parent, group;
    char state;
    int threads;
    uint64_t start;      /* in clock ticks since boot: with the PID, unlike all others */
    uint64_t blocked;    /* by its main thread, of the signals 1 to 31 */
    bool may_be_tracker; /* deaf to SIGTERM, or torch's by its name: worth a look at its command line */
};

/* Unlike all other errors, these do not mean that the process is gone. */
bool is_shortage(long error);

/* Whether /proc shows this PID namespace. Otherwise its numbers are other processes' here. */
bool proc_is_ours(void);

int process_read(pid_t pid, struct process *process);
int process_signal(const struct process *process, int pidfd, int sig);

/* Neither a zombie nor gone. */
bool process_alive(const struct process *process);

/* Whether it is a resource tracker of multiprocessing or loky, as in `python -c "from
 * multiprocessing.resource_tracker import main;main(5)"`, or torch_shm_manager. It unlinks what the
 * others leave in /dev/shm when the last of them is gone, and ends by itself. In the middle of an
 * exec a process has no command line yet that would tell. */
enum tracker { NO_TRACKER, TRACKER, UNKNOWN_YET };
enum tracker process_tracker(const struct process *process);
enum tracker pid_tracker(pid_t pid);

/* Whether each exec puts it elsewhere in memory: not under a debugger (personality(2)). */
bool pid_is_placed_at_random(pid_t pid);

/* What all of its threads do. */
struct activity {
    pid_t pid;
    /* 'T': all are stopped, and it can have no more children. 'D': not all are, but those wait in
     * the kernel, as vfork(2) does for a child that is stopped. Else 'R'. */
    char most;
    uint64_t blocked; /* by all of them, as in struct process */
};
struct activity process_activity(const struct process *process);

enum {
    PROC_PATH_SIZE = 64,
    PROC_BLOCK = 4096,
    PID_LIMIT = 1 << 22 /* PID_MAX_LIMIT: no larger number is a PID */
};
char *proc_path(char *path, pid_t pid, const char *file); /* returns its end */
long proc_open(const char *path, int flags);
long proc_read(const char *path, char *text, size_t size); /* what it begins with; returns its length */

/* Calls each() for every number that is a name in this directory. */
int proc_list_numbers(const char *path, void (*each)(void *with, pid_t number), void *with);

/* ---- tree.c: what is below a process. ---- */

struct link {
    pid_t pid, parent;
};

struct links {
    struct link *list;
    size_t count, capacity;
    int error; /* -errno: something is missing, as descriptors or memory ran out */
};

bool links_add(struct links *links, pid_t pid, pid_t parent);
void links_free(struct links *links);

/* The children of a process with one thread, as the kernel lists them. */
int tree_list_children(pid_t pid, struct links *into);

/* All processes that can be seen, each with its parent. */
int tree_list_all(struct links *into);

/* One walk, top down. Each living process below root is visited once. */
struct walk {
    pid_t root;
    pid_t reaper; /* inherits the orphans of this tree: root, if it is a subreaper; else 0 */
    bool signals; /* visit() signals, so it gets a pidfd. There is none where the kernel has none, nor
                     for our children: a PID of theirs is their own until we reap them */
    bool stops;   /* visit() stops them, so it comes before their children are listed: then they can
                     have no more. Else it comes after: a dead process has no children any more */
    void (*visit)(struct walk *walk, const struct process *process, int pidfd);
    void *with;
    bool over; /* visit() sets it, to be the last */
    struct links found;
};

/* Returns how many were visited; -errno if /proc cannot be read, or not all of it. */
int tree_walk(struct walk *walk);

/* The same for each of those in walk->found, and all below. None of them may be below another. */
int tree_walk_found(struct walk *walk);

#endif
