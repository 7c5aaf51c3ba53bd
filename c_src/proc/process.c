/* One process, as /proc shows it. */
#include "proc.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/personality.h>
#include <unistd.h>

enum { STAT_SIZE = 512, STATE = 3, PARENT = 4, GROUP = 5, THREADS = 20, START = 22, BLOCKED = 32, IGNORED = 33 };

static const char SHM_MANAGER[] = "torch_shm_manager";

struct entry { /* getdents64(2) */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

char *proc_path(char *path, pid_t pid, const char *file)
{
    return add_text(add_number(add_text(path, "/proc/"), (uint64_t)pid), file);
}

bool is_shortage(long error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

long proc_open(const char *path, int flags)
{
    return sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | flags, 0);
}

int proc_list_numbers(const char *path, void (*each)(void *with, pid_t number), void *with)
{
    _Alignas(struct entry) char block[PROC_BLOCK];
    long length, directory = proc_open(path, O_DIRECTORY);
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

long proc_read(const char *path, char *text, size_t size)
{
    long fd = proc_open(path, 0);
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
    long length = proc_read(path, text, sizeof text);
    if (length <= 0)
        return length < 0 ? (int)length : -ESRCH;
    while (length > 0 && text[length - 1] != ')') /* the command's name may contain anything */
        length--;
    if (length == 0 || text[length] == '\0')
        return -ESRCH; /* cut short */
    const char *at = text + length + 1;
    uint64_t fields[IGNORED + 1] = {0};
    char state = *at;
    for (int field = STATE; field <= IGNORED; field++) {
        const char *value = at;
        fields[field] = number_at(&value);
        while (*at != ' ' && *at != '\0')
            at++;
        if (*at == ' ')
            at++;
    }
    bool deaf = ((fields[BLOCKED] | fields[IGNORED]) & 1 << (SIGTERM - 1)) != 0;
    *process = (struct process){
        .pid = pid,
        .parent = (pid_t)fields[PARENT],
        .group = (pid_t)fields[GROUP],
        .state = state,
        .threads = (int)fields[THREADS],
        .start = fields[START],
        .blocked = fields[BLOCKED],
        .may_be_tracker = deaf || is_named(text, SHM_MANAGER),
    };
    return 0;
}

bool proc_is_ours(void)
{
    char text[24];
    const char *at = text;
    long length = sys4(SYS_readlinkat, AT_FDCWD, "/proc/self", text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = '\0';
    return number_at(&at) == (uint64_t)sys0(SYS_getpid);
}

int process_read(pid_t pid, struct process *process)
{
    char path[PROC_PATH_SIZE];
    proc_path(path, pid, "/stat");
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

/* The Python code of this package has the same rule. */
enum tracker pid_tracker(pid_t pid)
{
    static const char option[] = "-c", code[] = "from ", import[] = ".resource_tracker import main";
    char path[PROC_PATH_SIZE], text[PROC_BLOCK];
    proc_path(path, pid, "/cmdline");
    long length = proc_read(path, text, sizeof text);
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
    char path[PROC_PATH_SIZE], own[16], system[16];
    proc_path(path, pid, "/personality");
    if (proc_read(path, own, sizeof own) <= DIGIT ||
        proc_read("/proc/sys/kernel/randomize_va_space", system, sizeof system) <= 0)
        return false;
    return own[DIGIT] >= '0' && own[DIGIT] <= '9' && !((own[DIGIT] - '0') & FLAG) && system[0] >= '1' &&
           system[0] <= '9';
}

static char thread_activity(char state)
{
    return state == 'T' || state == 't' || state == 'Z' || state == 'X' ? 'T' : state == 'D' ? 'D' : 'R';
}

static void add_thread(void *with, pid_t thread)
{
    struct activity *all = with;
    struct process process;
    char path[PROC_PATH_SIZE];
    add_text(add_number(proc_path(path, all->pid, "/task/"), (uint64_t)thread), "/stat");
    if (read_stat(path, thread, &process) < 0)
        return;
    char one = thread_activity(process.state);
    if (one == 'R' || all->most == 'T')
        all->most = one;
    all->blocked &= process.blocked;
}

struct activity process_activity(const struct process *process)
{
    struct activity all = {.pid = process->pid, .most = 'T', .blocked = process->blocked};
    char path[PROC_PATH_SIZE];
    proc_path(path, process->pid, "/task");
    if (process->threads <= 1)
        all.most = thread_activity(process->state);
    else if (proc_list_numbers(path, add_thread, &all) < 0)
        all.most = 'R';
    return all;
}
