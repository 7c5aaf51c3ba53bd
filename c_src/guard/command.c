/* The command: a child of the reaper. Its signals, descriptors and environment are as they would be
 * without a guard. */
#include "guard.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096, INTERPRETER_SIZE = 256 /* BINPRM_BUF_SIZE */ };

/* What subprocess would try in turn. They come in one packet, so they are all here or none is. */
void receive_executables(struct guard *guard)
{
    int fd = guard->options.control;
    if (fd < 0)
        return;
    long length = sys6(SYS_recvfrom, fd, 0, 0, MSG_PEEK | MSG_TRUNC, 0, 0);
    if (length <= 0)
        fail(guard, length < 0 ? (int)-length : EPIPE, "--control");
    guard->executables = (char *)map_or_fail(guard, (size_t)length + 1, MAP_PRIVATE);
    sys6(SYS_recvfrom, fd, (long)guard->executables, length, 0, 0, 0);
}

static long execute(const struct guard *guard, const char *path)
{
    return sys3(SYS_execve, path, guard->options.command, guard->environment);
}

static bool is_absent(long error)
{
    return error == -ENOENT || error == -ENOTDIR;
}

/* As CPython's fork_exec does: the first error that is not about a candidate's absence counts. */
static int try_executables(const struct guard *guard)
{
    long error = -ENOENT, first = 0;
    for (const char *path = guard->executables; *path != '\0';) {
        error = execute(guard, path);
        if (!is_absent(error) && first == 0)
            first = error;
        while (*path++ != '\0')
            ;
    }
    return (int)-(first != 0 ? first : error);
}

/* A script without #! is run by the shell, as execvp(3) does. */
static long execute_or_interpret(const struct guard *guard, char *path)
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

/* From the environment; a colon is between its directories. */
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

static bool is_searched(const char *name)
{
    if (*name == '\0')
        return false;
    while (*name != '\0' && *name != '/')
        name++;
    return *name == '\0';
}

/* The next file that this name may mean. *search: the directories that are left; NULL: none. */
static bool next_path(const char **search, const char *name, char path[LONGEST_PATH])
{
    while (*search != NULL) {
        const char *directory = *search;
        size_t end = 0;
        while (directory[end] != '\0' && directory[end] != ':')
            end++;
        *search = directory[end] == ':' ? directory + end + 1 : NULL;
        if (end + length_of(name) + 2 > LONGEST_PATH)
            continue;
        char *at = path;
        for (size_t i = 0; i < end; i++)
            *at++ = directory[i];
        if (end > 0)
            *at++ = '/';
        add_text(at, name);
        return true;
    }
    return false;
}

/* execvp(3) */
static int try_path(const struct guard *guard)
{
    char *name = guard->options.command[0], path[LONGEST_PATH];
    const char *search = search_path(guard);
    long error = -ENOENT;
    if (!is_searched(name))
        return (int)-execute_or_interpret(guard, name);
    while (next_path(&search, name, path)) {
        long r = execute_or_interpret(guard, path);
        if (!is_absent(r) && error == -ENOENT)
            error = r;
        if (r != -EACCES && !is_absent(r))
            break;
    }
    return (int)-error;
}

/* What the #! of a script names, as one line. False: it is no script. */
static bool read_interpreter(const char *text, const char *end, char *interpreter)
{
    if (!same_text(text, "#!", 2))
        return false;
    for (text += 2; text < end && (*text == ' ' || *text == '\t'); text++)
        ;
    for (; text < end && *text != ' ' && *text != '\t' && *text != '\n' && *text != '\0'; text++)
        *interpreter++ = *text;
    *interpreter = '\0';
    return true;
}

/* execve(2) says ENOENT of a file that is there, too: then what would run it is missing, such as
 * the interpreter of a script. That may be a script itself. Returns which; NULL: it is not so. */
static const char *missing_interpreter(const char *path, char interpreter[INTERPRETER_SIZE])
{
    enum { DEEPEST = 5 }; /* exec_binprm() */
    for (int depth = 0; depth < DEEPEST; depth++) {
        char text[INTERPRETER_SIZE] = "";
        long fd = proc_open(path, O_NONBLOCK);
        if (fd < 0)
            return depth > 0 && is_absent(fd) ? interpreter : NULL;
        long length = sys3(SYS_read, fd, text, sizeof text - 1);
        sys1(SYS_close, fd);
        if (length > 0 && same_text(text, "\177ELF", 4))
            return "the dynamic loader";
        if (length < 0 || !read_interpreter(text, text + length, interpreter))
            return NULL;
        path = interpreter;
    }
    return NULL;
}

/* A file with DOS line ends names an interpreter that ends with CR: ^M. */
static void show_control_characters(const char *text, char *shown)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ')
            *shown++ = '^';
        *shown++ = (char)((unsigned char)*text < ' ' ? *text + '@' : *text);
    }
    *shown = '\0';
}

/* Returns the exit status. */
static int print_exec_error(const struct guard *guard, int error)
{
    const char *name = guard->options.command[0], *missing = NULL, *search = search_path(guard);
    char path[LONGEST_PATH], interpreter[INTERPRETER_SIZE], shown[2 * INTERPRETER_SIZE];
    if (!is_absent(-error))
        missing = NULL;
    else if (guard->options.executable != NULL)
        missing = missing_interpreter(guard->options.executable, interpreter);
    else if (!is_searched(name))
        missing = missing_interpreter(name, interpreter);
    else
        while (missing == NULL && next_path(&search, name, path))
            missing = missing_interpreter(path, interpreter);
    if (missing == NULL) {
        print_line(STDERR_FILENO, PARTS(name, ": ", error_text(error)));
        return error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
    }
    show_control_characters(missing, shown);
    print_line(STDERR_FILENO, PARTS(name, ": its interpreter is missing: ", shown));
    return NOT_EXECUTABLE;
}

static void restore_inherited_state(const struct guard *guard)
{
    unsigned long ignore[8] = {(unsigned long)SIG_IGN};
    if (guard->sigchld_was_ignored)
        sys4(SYS_rt_sigaction, SIGCHLD, ignore, NULL, sizeof(uint64_t));
    if (guard->limit_was_raised)
        sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &guard->limit, NULL);
    set_mask(guard->mask);
}

/* The caller of a guard with a control socket that does not linger takes the command's PID for that
 * of its child. If it made the child a leader, of a session or a group, so is the command. But a
 * session with a terminal is the monitor's: a second one would have no terminal. */
static bool leads(const struct guard *guard)
{
    if (guard->options.control < 0 || guard->options.linger || guard->group != guard->monitor)
        return false;
    if (guard->session != guard->monitor)
        return true;
    long terminal = sys4(SYS_openat, AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
    if (terminal >= 0)
        sys1(SYS_close, terminal);
    return terminal < 0;
}

static void lead(const struct guard *guard)
{
    if (guard->session == guard->monitor)
        sys0(SYS_setsid);
    else
        sys2(SYS_setpgid, 0, 0);
}

static _Noreturn void become_command(struct guard *guard)
{
    prctl_or_fail(guard, PR_SET_PDEATHSIG, SIGKILL);
    if (sys0(SYS_getppid) != guard->reaper)
        exit_with(NOT_STARTED);
    restore_inherited_state(guard);
    int error;
    if (guard->options.executable != NULL)
        error = (int)-execute(guard, guard->options.executable);
    else
        error = guard->executables != NULL ? try_executables(guard) : try_path(guard);
    report(guard, EXEC_FAILED, error);
    if (guard->options.control >= 0)
        exit_with(error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
    exit_with(print_exec_error(guard, error));
}

void note_early_signals(struct guard *guard)
{
    uint64_t pending = 0;
    sys2(SYS_rt_sigpending, &pending, sizeof pending);
    guard->early |= pending & (signal_bit(SIGINT) | signal_bit(SIGQUIT));
}

/* Nothing waits for the exec, as vfork(2) would: a stop signal to the group may stop the child
 * before it, and only the reaper can continue it. The library must know of the exec: for it, the
 * result is a pipe that hangs up then, or at the child's end. Without a descriptor for the pipe it
 * is vfork(2). */
int start_command(struct guard *guard)
{
    int pipe[2] = {-1, -1};
    note_early_signals(guard);
    if (guard->options.control >= 0 && open_descriptor(guard, SYS_pipe2, (long)pipe, O_CLOEXEC, 0, 0) < 0)
        pipe[0] = pipe[1] = -1;
    const bool waits = guard->options.control >= 0 && pipe[0] < 0;
    const bool is_leader = leads(guard);
    long pid = sys5(SYS_clone, SIGCHLD | (waits ? CLONE_VFORK : 0), 0, 0, 0, 0);
    if (pid < 0)
        fail(guard, (int)-pid, "fork");
    if (pid == 0) {
        if (is_leader)
            lead(guard);
        become_command(guard);
    }
    if (is_leader)
        guard->group = (pid_t)pid;
    if (pipe[1] >= 0)
        sys1(SYS_close, pipe[1]);
    guard->child.pid = (pid_t)pid;
    for (int sig = SIGINT; sig <= SIGQUIT; sig++) {
        if (guard->early & signal_bit(sig))
            signal_command(guard, &(struct signal){.number = sig});
    }
    return pipe[0];
}

/* The only function by which the command gets a signal while it runs, and the only place to
 * translate one (guard.h). A command that has ended gets none: its PID may be another's. */
void signal_command(const struct guard *guard, const struct signal *signal)
{
    char sig[NAME_SIZE], command[NAME_SIZE];
    if (guard->child.state == CHILD_ENDED)
        return;
    if (guard->options.verbose)
        tell(guard, PARTS(name_signal(sig, signal->number), " to ", name_command(command, guard)));
    forward_signal(guard->child.pid, signal);
}
