/* Finding what is below a process.
 *
 * The kernel lists the children of each thread in /proc/PID/task/TID/children. Where it does not
 * (CONFIG_PROC_CHILDREN), /proc/PID/stat of all processes tells who is whose child.
 *
 * A PID alone may be another process's by the time it is signalled. So a pidfd is opened first, and then it is looked
 * whether that process is the child that was listed. */
#include "tree.h"

#include "sys.h"
#include "text.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

enum {
    PATH_SIZE = 64,
    STAT_SIZE = 512,
    BLOCK = 4096,
    PARENT = 4,
    GROUP = 5,
    THREADS = 20,
    START = 22,
    BLOCKED = 32,
    IGNORED = 33,
    PID_LIMIT = 1 << 22 /* PID_MAX_LIMIT: what is larger, or wraps round to less than 1, is no PID to be signalled */
};

static const char SHM_MANAGER[] = "torch_shm_manager";

struct entry { /* getdents64(2) */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

bool links_add(struct links *links, pid_t pid, pid_t parent)
{
    if (links->count == links->capacity) {
        size_t size = links->capacity * sizeof *links->list;
        long at = size == 0 ? sys6(SYS_mmap, 0, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                            : sys4(SYS_mremap, links->list, size, 2 * size, MREMAP_MAYMOVE);
        if (at < 0 && at > -BLOCK) {
            links->error = (int)at;
            return false;
        }
        links->list = (struct link *)at;
        links->capacity = (size == 0 ? BLOCK : 2 * size) / sizeof *links->list;
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

static char *in_proc(char *path, pid_t pid, const char *file)
{
    return add_text(add_number(add_text(path, "/proc/"), (uint64_t)pid), file);
}

bool is_shortage(long error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static void note_shortage(struct links *links, long error)
{
    if (is_shortage(error))
        links->error = (int)error;
}

static long open_to_read(const char *path, int flags)
{
    return sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | flags, 0);
}

/* What a file begins with. Returns its length. */
static long read_text(const char *path, char *text, size_t size)
{
    long fd = open_to_read(path, 0);
    if (fd < 0)
        return fd;
    long length = sys3(SYS_read, fd, text, size - 1);
    sys1(SYS_close, fd);
    text[length > 0 ? length : 0] = '\0';
    return length;
}

/* Of a program's name, stat has the first 15 characters. */
static bool is_named(const char *stat, const char *name)
{
    while (*stat != '(' && *stat != '\0')
        stat++;
    return *stat == '(' && same_text(stat + 1, name, 15);
}

static int read_stat(const char *path, pid_t pid, struct process *process)
{
    char text[STAT_SIZE];
    long length = read_text(path, text, sizeof text);
    if (length <= 0)
        return length < 0 ? (int)length : -ESRCH;
    while (length > 0 && text[length - 1] != ')') /* the command's name may contain anything */
        length--;
    if (length == 0 || text[length] == '\0')
        return -ESRCH; /* cut short */
    const char *at = text + length + 1;
    *process = (struct process){.pid = pid, .state = *at, .may_be_tracker = is_named(text, SHM_MANAGER)};
    for (int field = 3; field <= IGNORED; field++) {
        const char *value = at;
        switch (field) {
        case PARENT:
            process->parent = (pid_t)number_at(&value);
            break;
        case GROUP:
            process->group = (pid_t)number_at(&value);
            break;
        case THREADS:
            process->threads = (int)number_at(&value);
            break;
        case START:
            process->start = number_at(&value);
            break;
        case BLOCKED:
            process->blocked = number_at(&value);
            break;
        case IGNORED:
            process->may_be_tracker |= ((process->blocked | number_at(&value)) & 1 << (SIGTERM - 1)) != 0;
            break;
        }
        while (*at != ' ' && *at != '\0')
            at++;
        if (*at == ' ')
            at++;
    }
    return 0;
}

int process_read(pid_t pid, struct process *process)
{
    char path[PATH_SIZE];
    in_proc(path, pid, "/stat");
    return read_stat(path, pid, process);
}

int process_signal(const struct process *process, int pidfd, int sig)
{
    long r = pidfd >= 0 ? sys4(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) : -ENOSYS;
    return (int)(r == -ENOSYS ? sys2(SYS_kill, process->pid, sig) : r);
}

/* A main thread that has ended before the others looks like a zombie. */
bool process_alive(const struct process *process)
{
    return (process->state != 'Z' && process->state != 'X') || process->threads > 1;
}

enum tracker process_tracker(const struct process *process)
{
    return process->may_be_tracker ? pid_tracker(process->pid) : NO_TRACKER;
}

/* The program's name, without its directory. */
static const char *name_in(const char *path)
{
    const char *name = path;
    for (; *path != '\0'; path++) {
        if (*path == '/')
            name = path + 1;
    }
    return name;
}

/* _environ.py knows them too. */
enum tracker pid_tracker(pid_t pid)
{
    static const char option[] = "-c", code[] = "from ", import[] = ".resource_tracker import main";
    char path[PATH_SIZE], text[BLOCK];
    in_proc(path, pid, "/cmdline");
    long length = read_text(path, text, sizeof text);
    if (length <= 0)
        return length == 0 ? UNKNOWN_YET : NO_TRACKER;
    if (same_text(name_in(text), SHM_MANAGER, sizeof SHM_MANAGER))
        return TRACKER;
    const char *end = text + length, *at = text;
    while (at < end && !same_text(at, option, sizeof option))
        at = after_text(at, end);
    at = after_text(at, end);
    if (at >= end || !same_text(at, code, sizeof code - 1))
        return NO_TRACKER;
    for (; at < end && *at != ';' && *at != '\0'; at++) {
        if (same_text(at, import, sizeof import - 1))
            return TRACKER;
    }
    return NO_TRACKER;
}

bool pid_is_placed_at_random(pid_t pid)
{
    enum { DIGIT = 3, FLAG = ADDR_NO_RANDOMIZE >> 16 }; /* of eight hexadecimal ones */
    char path[PATH_SIZE], own[16], system[16];
    in_proc(path, pid, "/personality");
    if (read_text(path, own, sizeof own) <= DIGIT ||
        read_text("/proc/sys/kernel/randomize_va_space", system, sizeof system) <= 0)
        return false;
    return own[DIGIT] >= '0' && own[DIGIT] <= '9' && !((own[DIGIT] - '0') & FLAG) && system[0] >= '1' &&
           system[0] <= '9';
}

/* Calls each() for every number that is a name in this directory. */
static int list_numbers(const char *path, void (*each)(void *with, pid_t number), void *with)
{
    _Alignas(struct entry) char block[BLOCK];
    long length, directory = open_to_read(path, O_DIRECTORY);
    if (directory < 0)
        return (int)directory;
    while ((length = sys3(SYS_getdents64, directory, block, sizeof block)) > 0) {
        for (long at = 0; at < length;) {
            const struct entry *entry = (const struct entry *)(block + at);
            at += entry->length;
            const char *name = entry->name;
            uint64_t number = number_at(&name);
            if (*name == '\0' && number > 0 && number <= PID_LIMIT)
                each(with, (pid_t)number);
        }
    }
    sys1(SYS_close, directory);
    return (int)length;
}

struct of_process {
    pid_t pid;
    struct links *into;
};

static void add_listed(const char *path, const struct of_process *of)
{
    char block[BLOCK];
    long length, fd = open_to_read(path, 0);
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
    char path[PATH_SIZE];
    add_text(add_number(in_proc(path, of->pid, "/task/"), (uint64_t)thread), "/children");
    add_listed(path, of);
}

static void add_children(const struct process *process, struct links *into)
{
    struct of_process of = {.pid = process->pid, .into = into};
    char path[PATH_SIZE];
    if (process->threads == 1) {
        add_children_of_thread(&of, process->pid);
    } else {
        in_proc(path, process->pid, "/task");
        note_shortage(into, list_numbers(path, add_children_of_thread, &of));
    }
}

struct activity {
    pid_t pid;
    char most;
};

static char thread_activity(char state)
{
    return state == 'T' || state == 't' || state == 'Z' || state == 'X' ? 'T' : state == 'D' ? 'D' : 'R';
}

static int read_thread(pid_t pid, pid_t thread, struct process *process)
{
    char path[PATH_SIZE];
    add_text(add_number(in_proc(path, pid, "/task/"), thread), "/stat");
    return read_stat(path, thread, process);
}

static void add_activity(void *with, pid_t thread)
{
    struct activity *activity = with;
    struct process process;
    if (read_thread(activity->pid, thread, &process) < 0)
        return;
    char one = thread_activity(process.state);
    if (one == 'R' || activity->most == 'T')
        activity->most = one;
}

char process_activity(const struct process *process)
{
    struct activity activity = {.pid = process->pid, .most = 'T'};
    char path[PATH_SIZE];
    if (process->threads <= 1)
        return thread_activity(process->state);
    in_proc(path, process->pid, "/task");
    return list_numbers(path, add_activity, &activity) < 0 ? 'R' : activity.most;
}

static void leave_blocked(void *with, pid_t thread)
{
    struct process *all = with, process;
    if (read_thread(all->pid, thread, &process) == 0)
        all->blocked &= process.blocked;
}

bool process_blocks(const struct process *process, int sig)
{
    enum { LAST = 31 };
    struct process all = *process;
    char path[PATH_SIZE];
    if (sig < 1 || sig > LAST || !(process->blocked >> (sig - 1) & 1))
        return false;
    if (process->threads > 1) {
        in_proc(path, process->pid, "/task");
        list_numbers(path, leave_blocked, &all);
    }
    return all.blocked >> (sig - 1) & 1;
}

static bool kernel_lists_children(void)
{
    return sys3(SYS_faccessat, AT_FDCWD, "/proc/thread-self/children", R_OK) == 0;
}

/* Not if it shows another PID namespace: its numbers are then other processes' here. */
static bool proc_is_ours(void)
{
    char text[24];
    const char *at = text;
    long length = sys4(SYS_readlinkat, AT_FDCWD, "/proc/self", text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = '\0';
    return number_at(&at) == (uint64_t)sys0(SYS_getpid);
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
    int r = list_numbers("/proc", add_with_parent, into);
    return r < 0 ? r : into->error;
}

static void add_children_among(const struct links *all, pid_t parent, struct links *into)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->list[i].parent == parent)
            links_add(into, all->list[i].pid, parent);
    }
}

static void add_below(struct walk *walk, const struct process *process, const struct links *all)
{
    if (all == NULL)
        add_children(process, &walk->found);
    else
        add_children_among(all, process->pid, &walk->found);
}

/* One that was listed, unless it has ended, or its PID is another's by now. Returns whether it was visited. */
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
