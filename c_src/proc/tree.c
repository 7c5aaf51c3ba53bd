/* Finding what is below a process.
 *
 * The kernel lists the children of each thread in /proc/PID/task/TID/children. Where it does not
 * (CONFIG_PROC_CHILDREN), /proc/PID/stat of all processes tells the parent of each.
 *
 * A PID alone may be another process's by the time it is signalled. So a pidfd is opened first;
 * then /proc/PID/stat is read again: is that process the child that was listed? */
#include "proc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

bool links_add(struct links *links, pid_t pid, pid_t parent)
{
    if (links->count == links->capacity) {
        size_t size = links->capacity * sizeof *links->list;
        long at = size == 0 ? sys6(SYS_mmap, 0, PROC_BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                            : sys4(SYS_mremap, links->list, size, 2 * size, MREMAP_MAYMOVE);
        if (at < 0 && at > -PROC_BLOCK) {
            links->error = (int)at;
            return false;
        }
        links->list = (struct link *)at;
        links->capacity = (size == 0 ? PROC_BLOCK : 2 * size) / sizeof *links->list;
    }
    links->list[links->count++] = (struct link){.pid = pid, .parent = parent};
    return true;
}

void links_free(struct links *links)
{
    if (links->capacity > 0)
        sys2(SYS_munmap, links->list, links->capacity * sizeof *links->list);
    *links = (struct links){0};
}

static void note_shortage(struct links *links, long error)
{
    if (is_shortage(error))
        links->error = (int)error;
}

struct of_process {
    pid_t pid;
    struct links *into;
};

static void add_listed(const char *path, const struct of_process *of)
{
    char block[PROC_BLOCK];
    long length, fd = proc_open(path, 0);
    if (fd < 0) {
        note_shortage(of->into, fd);
        return;
    }
    pid_t number = 0;
    while ((length = sys3(SYS_read, fd, block, sizeof block)) > 0) {
        for (long at = 0; at < length; at++) {
            if (block[at] >= '0' && block[at] <= '9') {
                number = number > PID_LIMIT ? number : number * 10 + (block[at] - '0');
            } else {
                if (number > 0 && number <= PID_LIMIT)
                    links_add(of->into, number, of->pid);
                number = 0;
            }
        }
    }
    sys1(SYS_close, fd);
}

static void add_children_of_thread(void *with, pid_t thread)
{
    const struct of_process *of = with;
    char path[PROC_PATH_SIZE];
    add_text(add_number(proc_path(path, of->pid, "/task/"), (uint64_t)thread), "/children");
    add_listed(path, of);
}

static void add_children(const struct process *process, struct links *into)
{
    struct of_process of = {.pid = process->pid, .into = into};
    char path[PROC_PATH_SIZE];
    if (process->threads == 1) {
        add_children_of_thread(&of, process->pid);
    } else {
        proc_path(path, process->pid, "/task");
        note_shortage(into, proc_list_numbers(path, add_children_of_thread, &of));
    }
}

static bool kernel_lists_children(void)
{
    return sys3(SYS_faccessat, AT_FDCWD, "/proc/thread-self/children", R_OK) == 0;
}

int tree_list_children(pid_t pid, struct links *into)
{
    const struct process process = {.pid = pid, .threads = 1};
    if (!proc_is_ours() || !kernel_lists_children())
        return -ENOTSUP;
    into->count = 0;
    add_children(&process, into);
    return into->error;
}

static void add_with_parent(void *with, pid_t pid)
{
    struct process process;
    int r = process_read(pid, &process);
    note_shortage(with, r);
    if (r == 0 && process_alive(&process))
        links_add(with, pid, process.parent);
}

int tree_list_all(struct links *into)
{
    int r = proc_list_numbers("/proc", add_with_parent, into);
    return r < 0 ? r : into->error;
}

/* all: NULL where the kernel lists children. */
static void add_below(struct walk *walk, const struct process *process, const struct links *all)
{
    if (all == NULL)
        add_children(process, &walk->found);
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        if (all->list[i].parent == process->pid)
            links_add(&walk->found, all->list[i].pid, process->pid);
    }
}

/* One that was listed. Returns false if it has ended, or its PID is another's by now. */
static bool visit(struct walk *walk, struct link link, const struct links *all)
{
    struct process process;
    long pidfd = -1;
    if (walk->signals && link.parent != sys0(SYS_getpid))
        pidfd = sys2(SYS_pidfd_open, link.pid, 0);
    int r = pidfd == -ESRCH ? -ESRCH : process_read(link.pid, &process);
    note_shortage(&walk->found, pidfd);
    note_shortage(&walk->found, r);
    bool visited = r == 0 && process_alive(&process) &&
                   (process.parent == link.parent || (walk->reaper != 0 && process.parent == walk->reaper));
    if (visited) {
        if (walk->stops)
            walk->visit(walk, &process, (int)pidfd);
        add_below(walk, &process, all);
        if (!walk->stops)
            walk->visit(walk, &process, (int)pidfd);
    }
    if (pidfd >= 0)
        sys1(SYS_close, pidfd);
    return visited;
}

static int walk_below(struct walk *walk, const struct process *root)
{
    struct links all = {0};
    int visited = 0, r = 0;
    bool listed = kernel_lists_children();
    walk->found.error = 0;
    if (!listed)
        r = tree_list_all(&all);
    if (r == 0) {
        if (root != NULL)
            add_below(walk, root, listed ? NULL : &all);
        for (size_t i = 0; i < walk->found.count && !walk->over; i++)
            visited += visit(walk, walk->found.list[i], listed ? NULL : &all);
        r = walk->found.error;
    }
    links_free(&all);
    return r < 0 ? r : visited;
}

int tree_walk(struct walk *walk)
{
    struct process root;
    int r = proc_is_ours() ? process_read(walk->root, &root) : -ENOTSUP;
    if (r < 0)
        return r;
    walk->found.count = 0;
    return walk_below(walk, &root);
}

int tree_walk_found(struct walk *walk)
{
    return walk_below(walk, NULL);
}
