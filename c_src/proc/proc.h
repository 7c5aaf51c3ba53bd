/* Processes and what is below them: found in /proc, looked at, signalled. Shared by the library
 * (kill_tree) and the guard. So: system calls only, and memory from mmap(2) only. Results are >= 0,
 * or -errno. */
#ifndef PDEATHSIG_PROC_H
#define PDEATHSIG_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* process.c */

/* Of proc_pid_stat(5). */
struct process {
    pid_t pid, parent, group;
    char state;
    int threads;
    uint64_t start;      /* in clock ticks since boot: with the PID, it tells a process from all others */
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

/* Whether each exec puts it elsewhere in memory. Not under a debugger or setarch -R
 * (personality(2)). */
bool pid_is_placed_at_random(pid_t pid);

/* Of all of its threads. 'T': they are stopped, and it can have no more children. 'D': not all are,
 * but those wait in the kernel, as vfork(2) does for a child that is stopped. Else 'R'. */
char process_activity(const struct process *process);

/* Whether all of its threads block the signal, one of 1 to 31. The file tells of no later one. */
bool process_blocks(const struct process *process, int sig);

/* For tree.c. */
enum {
    PROC_PATH_SIZE = 64,
    PROC_BLOCK = 4096,
    PID_LIMIT = 1 << 22 /* PID_MAX_LIMIT: no larger number is a PID */
};
char *proc_path(char *path, pid_t pid, const char *file); /* returns its end */
long proc_open(const char *path, int flags);

/* Calls each() for every number that is a name in this directory. */
int proc_list_numbers(const char *path, void (*each)(void *with, pid_t number), void *with);

/* tree.c */

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
    pid_t reaper; /* the process that inherits the orphans of this tree: root, if it is a subreaper; else 0 */
    bool signals; /* whether visit() signals: then it gets a pidfd. None for children of ours, whose PID is
                     theirs until we reap them, nor where the kernel has none */
    bool stops;   /* whether visit() stops them: it comes before their children are listed, as they can then
                     have no more. Otherwise after: a process that dies has no children any more */
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
