/* The command: a child of the inner process, as it would be without a guard: its signals, descriptors and environment
 * are those that we were given. */
#include "guard.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATH_MAX_HERE = 4096 };

/* What subprocess would try in turn. */
void receive_executables(struct guard *guard)
{
    int fd = guard->options.control;
    if (fd < 0)
        return;
    long length = sys6(SYS_recvfrom, fd, 0, 0, MSG_PEEK | MSG_TRUNC, 0, 0);
    if (length <= 0)
        fail(guard, length < 0 ? (int)-length : EPIPE, "--control");
    long at = sys6(SYS_mmap, 0, length + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        fail(guard, (int)-at, "mmap");
    guard->executables = (char *)at;
    sys6(SYS_recvfrom, fd, at, length, 0, 0, 0);
}

static long execute(const struct guard *guard, const char *path)
{
    return sys3(SYS_execve, path, guard->options.command, guard->environment);
}

static bool absent(long error)
{
    return error == -ENOENT || error == -ENOTDIR;
}

/* As CPython's fork_exec does: the first error that is not about a candidate's absence counts. */
static int try_executables(const struct guard *guard)
{
    long error = -ENOENT, first = 0;
    for (const char *path = guard->executables; *path != '\0';) {
        error = execute(guard, path);
        if (!absent(error) && first == 0)
            first = error;
        while (*path++ != '\0')
            ;
    }
    return (int)-(first != 0 ? first : error);
}

/* A script without #! is the shell's, as with execvp(3). */
static long execute_or_read(const struct guard *guard, char *path)
{
    long error = execute(guard, path);
    if (error != -ENOEXEC)
        return error;
    char **command = guard->options.command;
    int count = 0;
    while (command[count] != NULL)
        count++;
    char *arguments[count + 2];
    arguments[0] = "/bin/sh";
    arguments[1] = path;
    for (int i = 1; i <= count; i++)
        arguments[i + 1] = command[i];
    sys3(SYS_execve, arguments[0], arguments, guard->environment);
    return error;
}

static const char *search_path(const struct guard *guard)
{
    static const char name[] = "PATH=";
    for (char **variable = guard->environment; *variable != NULL; variable++) {
        size_t i = 0;
        while (name[i] != '\0' && (*variable)[i] == name[i])
            i++;
        if (name[i] == '\0')
            return *variable + i;
    }
    return "/bin:/usr/bin";
}

/* execvp(3) */
static int try_path(const struct guard *guard)
{
    char *name = guard->options.command[0], path[PATH_MAX_HERE];
    size_t length = 0;
    bool has_slash = false;
    for (; name[length] != '\0'; length++)
        has_slash = has_slash || name[length] == '/';
    if (has_slash || length == 0)
        return (int)-execute_or_read(guard, name);
    long error = -ENOENT;
    for (const char *directory = search_path(guard);; directory++) {
        size_t end = 0;
        while (directory[end] != '\0' && directory[end] != ':')
            end++;
        if (end + length + 2 <= sizeof path) {
            char *at = path;
            for (size_t i = 0; i < end; i++)
                *at++ = directory[i];
            if (end > 0)
                *at++ = '/';
            add_text(at, name);
            long r = execute_or_read(guard, path);
            if (!absent(r) && error == -ENOENT)
                error = r;
            if (r != -EACCES && !absent(r))
                break;
        }
        directory += end;
        if (*directory == '\0')
            break;
    }
    return (int)-error;
}

static void give_back(const struct guard *guard)
{
    unsigned long ignore[8] = {(unsigned long)SIG_IGN};
    if (guard->sigchld_was_ignored)
        sys4(SYS_rt_sigaction, SIGCHLD, ignore, NULL, sizeof(uint64_t));
    if (guard->limit_was_raised)
        sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &guard->limit, NULL);
    for (int sig = SIGINT; sig <= SIGQUIT; sig++) {
        if (guard->early & bit(sig))
            sys2(SYS_kill, sys0(SYS_getpid), sig);
    }
    set_mask(guard->mask);
}

static _Noreturn void become_the_command(struct guard *guard)
{
    must_prctl(guard, PR_SET_PDEATHSIG, SIGKILL);
    if (sys0(SYS_getppid) != guard->inner)
        leave(NOT_STARTED);
    give_back(guard);
    int error;
    if (guard->options.executable != NULL)
        error = (int)-execute(guard, guard->options.executable);
    else
        error = guard->executables != NULL ? try_executables(guard) : try_path(guard);
    report_failure(guard, EXEC_FAILED, error);
    if (guard->options.control < 0)
        say(STDERR_FILENO, guard->options.command[0], ": ", error_text(error), NULL);
    leave(error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
}

/* Returns when it is the command, or has said why it is not. */
void start_command(struct guard *guard)
{
    note_early(guard);
    long pid = sys5(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0)
        fail(guard, (int)-pid, "fork");
    if (pid == 0)
        become_the_command(guard);
    guard->child = (pid_t)pid;
}
