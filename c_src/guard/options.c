/* The command line. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static const char HELP[] =
    "usage: pdeathsig-run [--signal TERM] [--grace 5] [--scope tree] [--parent PID] [--linger]\n"
    "                     [--] command [argument ...]\n"
    "\n"
    "Run the command, and let nothing below it outlive it, nor the process that started this.\n"
    "\n"
    "  --signal NAME    what everybody gets first, by name or number (TERM)\n"
    "  --grace SECONDS  from that to SIGKILL (5; 0: SIGKILL at once)\n"
    "  --scope SCOPE    tree: all that is below the command; group: what is in its process group;\n"
    "                   child: the command alone (tree)\n"
    "  --parent PID     also end when that process does\n"
    "  --linger         what the command leaves behind may live as long as the process that started this\n"
    "  --help, --version\n"
    "\n"
    "Exit status: the command's. 125: not started; 126: cannot be executed; 127: not found.\n";

static const struct {
    char name[7];
    unsigned char number;
} SIGNALS[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT}, {"BUS", SIGBUS},     {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"USR1", SIGUSR1},
    {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},   {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU}, {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"PWR", SIGPWR},   {"SYS", SIGSYS},
};

static _Noreturn void bad(const char *option, const char *value, const char *why)
{
    say(STDERR_FILENO, option, ": ", value, why);
    leave(NOT_STARTED);
}

static size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

static bool equal(const char *a, const char *b)
{
    return same_text(a, b, (int)length_of(b) + 1);
}

static _Noreturn void print(const char *text)
{
    leave(sys3(SYS_write, STDOUT_FILENO, text, length_of(text)) < 0);
}

static bool is_number(const char *text, uint64_t maximum, uint64_t *number)
{
    const char *at = text;
    *number = number_at(&at);
    return at > text && at - text < 19 && *at == '\0' && *number <= maximum;
}

static int read_signal(const char *option, const char *value)
{
    uint64_t number;
    if (is_number(value, NEWS, &number) && number > 0)
        return (int)number;
    const char *name = same_text(value, "SIG", 3) ? value + 3 : value;
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        if (equal(name, SIGNALS[i].name))
            return SIGNALS[i].number;
    }
    bad(option, value, " is not a signal's name or number");
}

/* Decimal, up to nanoseconds. */
static int64_t read_seconds(const char *option, const char *value)
{
    const char *at = value;
    uint64_t seconds = number_at(&at);
    int64_t ns = 0, unit = 1000000000;
    bool digits = at > value, whole = at - value < 10;
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++) {
            unit /= 10;
            ns += (*at - '0') * unit;
            digits = true;
        }
    }
    if (!digits || !whole || *at != '\0')
        bad(option, value, " is not a number of seconds");
    return (int64_t)seconds * 1000000000 + ns;
}

static enum scope read_scope(const char *option, const char *value)
{
    if (equal(value, "tree"))
        return SCOPE_TREE;
    if (equal(value, "group"))
        return SCOPE_GROUP;
    if (equal(value, "child"))
        return SCOPE_CHILD;
    bad(option, value, " is not tree, group or child");
}

static int read_descriptor(const char *option, const char *value)
{
    uint64_t fd;
    if (!is_number(value, INT_MAX, &fd) || sys2(SYS_fcntl, fd, F_GETFD) < 0)
        bad(option, value, " is not an open descriptor");
    set_close_on_exec((int)fd);
    return (int)fd;
}

/* A slow road of the library may have armed it to kill us with SIGKILL, at once. */
static int read_lifeline(const char *option, const char *value)
{
    int fd = read_descriptor(option, value);
    sys3(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* PID, or PID:START with the start time of proc_pid_stat(5): no other process has both. */
static void read_parent(struct options *options, const char *option, const char *value)
{
    const char *at = value;
    uint64_t pid = number_at(&at);
    if (at == value || at - value > 10 || pid == 0 || pid > INT_MAX || (*at != '\0' && *at != ':'))
        bad(option, value, " is not a PID");
    options->parent = (pid_t)pid;
    if (*at == ':' && !is_number(at + 1, INT64_MAX, &options->parent_start))
        bad(option, value, " is not a PID and a start time");
}

static bool is_option(const char *name)
{
    static const char names[][13] = {"--signal",   "--grace",   "--scope", "--parent",
                                     "--lifeline", "--control", "--close", "--executable"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (equal(name, names[i]))
            return true;
    }
    return false;
}

static void take(struct options *options, const char *option, const char *value)
{
    if (equal(option, "--signal"))
        options->sig = read_signal(option, value);
    else if (equal(option, "--grace"))
        options->grace_ns = read_seconds(option, value);
    else if (equal(option, "--scope"))
        options->scope = read_scope(option, value);
    else if (equal(option, "--parent"))
        read_parent(options, option, value);
    else if (equal(option, "--lifeline"))
        options->lifeline = read_lifeline(option, value);
    else if (equal(option, "--control"))
        options->control = read_descriptor(option, value);
    else if (equal(option, "--executable"))
        options->executable = value;
    else
        read_descriptor(option, value); /* we were executed by it, and the command is not to have it */
}

void read_options(struct guard *guard, char **arguments)
{
    struct options *options = &guard->options;
    *options = (struct options){.sig = SIGTERM, .grace_ns = INT64_C(5000000000), .lifeline = -1, .control = -1};
    char **next = arguments[0] == NULL ? arguments : arguments + 1;
    for (; *next != NULL && (*next)[0] == '-'; next++) {
        char name[16];
        const char *option = *next;
        size_t length = 0;
        if (equal(option, "--")) {
            next++;
            break;
        }
        if (equal(option, "--help"))
            print(HELP);
        if (equal(option, "--version"))
            print("pdeathsig-run " PDS_VERSION "\n");
        if (equal(option, "--linger")) {
            options->linger = true;
            continue;
        }
        while (option[length] != '\0' && option[length] != '=' && length < sizeof name - 1) {
            name[length] = option[length];
            length++;
        }
        name[length] = '\0';
        const char *value = option[length] == '=' ? option + length + 1 : next[1];
        if (option[length] == '\0' && value != NULL)
            next++;
        if (!is_option(name))
            bad(option, "no such option", NULL);
        if (value == NULL)
            bad(option, "needs a value", NULL);
        take(options, name, value);
    }
    options->command = next;
    if (*next == NULL && options->control < 0)
        bad("command", "none given; see --help", NULL);
}
