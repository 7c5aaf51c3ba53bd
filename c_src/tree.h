/* What is below a process: found, looked at, signalled. Shared by the library (kill_tree) and the guard: system calls
 * only, and memory from mmap(2) only. Results are >= 0, or -errno. */
#ifndef PDEATHSIG_TREE_H
#define PDEATHSIG_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Of proc_pid_stat(5). */
struct process {
    pid_t pid, parent, group;
    char state;
    int threads;
    uint64_t start;      /* in clock ticks since boot: with the PID, it tells a process from all others */
    uint64_t blocked;    /* by its main thread, of the signals 1 to 31 */
    bool may_be_tracker; /* deaf to SIGTERM, or torch's by its name: worth a look at its command line */
};

struct link {
    pid_t pid, parent;
};

struct links {
    struct link *list;
    size_t count, capacity;
    int error; /* -errno: something is missing, as descriptors or memory ran out */
};

/* One walk, top down. Each living process below root is visited once. */
struct walk {
    pid_t root;
    pid_t reaper; /* who inherits the orphans of this tree: root, if it is a subreaper; else 0 */
    bool signals; /* whether visit() signals: then it gets a pidfd, but for children of ours, whose PID is theirs until
                     we reap them, and where the kernel has none */
    bool stops;   /* whether visit() stops them: it comes before their children are listed, as they can then have no
                     more. Otherwise after: whoever dies has no children any more */
    void (*visit)(struct walk *walk, const struct process *process, int pidfd);
    void *with;
    bool over; /* visit() sets it, to be the last */
    struct links found;
};

/* Unlike all other errors, these do not mean that the process is gone. */
bool is_shortage(long error);

int process_read(pid_t pid, struct process *process);
int process_signal(const struct process *process, int pidfd, int sig);

/* Neither a zombie nor gone. */
bool process_alive(const struct process *process);

/* Whether it is a resource tracker of multiprocessing or loky, as in
 * `python -c "from multiprocessing.resource_tracker import main;main(5)"`, or torch_shm_manager: it unlinks what the
 * others leave in /dev/shm when the last of them is gone, and goes by itself. In the middle of exec a process has no
 * command line yet that would tell. */
enum tracker { NO_TRACKER, TRACKER, UNKNOWN_YET };
enum tracker process_tracker(const struct process *process);
enum tracker pid_tracker(pid_t pid);

/* Whether each exec puts it elsewhere in memory: not under a debugger, or setarch -R (personality(2)). */
bool pid_is_placed_at_random(pid_t pid);

/* Of all of its threads: 'T': stopped, it can have no more children; 'D': not all, but those wait in the kernel, as
 * vfork(2) does for a child that is stopped; else 'R'. */
char process_activity(const struct process *process);

/* Whether all of its threads block the signal, one of 1 to 31. Of a later one /proc/PID/stat does not tell. */
bool process_blocks(const struct process *process, int sig);

/* Returns how many were visited; -errno if /proc cannot be read, or not all of it. */
int tree_walk(struct walk *walk);

/* The same for each of those in walk->found, and all below. None of them may be below another. */
int tree_walk_found(struct walk *walk);

bool links_add(struct links *links, pid_t pid, pid_t parent);

/* The children of a process with one thread, as the kernel lists them. */
int tree_list_children(pid_t pid, struct links *into);

/* All processes that can be seen, each with its parent. */
int tree_list_all(struct links *into);

void links_free(struct links *links);

#endif
