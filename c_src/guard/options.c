/* The command line. A new option is a line in OPTIONS, a function that reads it, and a field in
 * struct options. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

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

/* Reads a value into options. Returns what is wrong with it, or NULL. */
typedef const char *read_value(struct options *options, const char *value);

struct option {
    const char *name;
    const char *value; /* what --help calls it; NULL: it takes none */
    read_value *read;
    const char *help; /* NULL: for the library alone, so --help does not show it */
};

static _Noreturn void bad(const char *option, const char *value, const char *why)
{
    print_line(STDERR_FILENO, option, ": ", value, why);
    exit_with(NOT_STARTED);
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

static void print(const char *text)
{
    if (sys3(SYS_write, STDOUT_FILENO, text, length_of(text)) < 0)
        exit_with(1);
}

static bool is_number(const char *text, uint64_t maximum, uint64_t *number)
{
    const char *at = text;
    *number = number_at(&at);
    return at > text && at - text < 19 && *at == '\0' && *number <= maximum;
}

/* 0: it is none. */
static int signal_number(const char *text)
{
    uint64_t number;
    const char *name = same_text(text, "SIG", 3) ? text + 3 : text;
    if (is_number(text, LAST_SIGNAL, &number))
        return (int)number;
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        if (equal(name, SIGNALS[i].name))
            return SIGNALS[i].number;
    }
    return 0;
}

static const char *read_signal(struct options *options, const char *value)
{
    options->sig = signal_number(value);
    return options->sig == 0 ? " is not a signal's name or number" : NULL;
}

/* Decimal, up to nanoseconds. */
static const char *read_grace(struct options *options, const char *value)
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
        return " is not a number of seconds";
    options->grace_ns = (int64_t)seconds * 1000000000 + ns;
    return NULL;
}

static const char *read_scope(struct options *options, const char *value)
{
    static const char names[][6] = {[SCOPE_TREE] = "tree", [SCOPE_GROUP] = "group", [SCOPE_CHILD] = "child"};
    for (int scope = SCOPE_TREE; scope <= SCOPE_CHILD; scope++) {
        options->scope = (enum scope)scope;
        if (equal(value, names[scope]))
            return NULL;
    }
    return " is not tree, group or child";
}

/* PID, or PID:START with the start time of proc_pid_stat(5): no other process has both. */
static const char *read_parent(struct options *options, const char *value)
{
    const char *at = value;
    uint64_t pid = number_at(&at);
    if (at == value || at - value > 10 || pid == 0 || pid > INT_MAX || (*at != '\0' && *at != ':'))
        return " is not a PID";
    options->parent = (pid_t)pid;
    if (*at == ':' && !is_number(at + 1, INT64_MAX, &options->parent_start))
        return " is not a PID and a start time";
    return NULL;
}

static const char *read_linger(struct options *options, const char *value)
{
    (void)value;
    options->linger = true;
    return NULL;
}

/* The command is not to have it. */
static const char *read_descriptor(int *descriptor, const char *value)
{
    uint64_t fd;
    if (!is_number(value, INT_MAX, &fd) || sys2(SYS_fcntl, fd, F_GETFD) < 0)
        return " is not an open descriptor";
    sys3(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
    *descriptor = (int)fd;
    return NULL;
}

/* The library may have armed it so that its hang-up sends SIGKILL: that ends here (fcntl(2),
 * O_ASYNC). */
static const char *read_lifeline(struct options *options, const char *value)
{
    const char *wrong = read_descriptor(&options->lifeline, value);
    sys3(SYS_fcntl, options->lifeline, F_SETFL, O_NONBLOCK);
    return wrong;
}

static const char *read_control(struct options *options, const char *value)
{
    return read_descriptor(&options->control, value);
}

/* By this descriptor the guard itself was executed. */
static const char *read_close(struct options *options, const char *value)
{
    int fd;
    (void)options;
    return read_descriptor(&fd, value);
}

static const char *read_executable(struct options *options, const char *value)
{
    options->executable = value;
    return NULL;
}

static read_value print_help, print_version;

static const struct option OPTIONS[] = {
    {"--signal", "NAME", read_signal, "what all processes get first, by name or number (TERM)"},
    {"--grace", "SECONDS", read_grace, "from that to SIGKILL (5; 0: SIGKILL at once)"},
    {"--scope", "SCOPE", read_scope,
     "tree: all that is below the command; group: what is in its process group;\n"
     "                    child: the command alone (tree)"},
    {"--parent", "PID", read_parent, "also end when that process does"},
    {"--linger", NULL, read_linger, "what the command leaves behind may live as long as the process that started this"},
    {"--help", NULL, print_help, "print this"},
    {"--version", NULL, print_version, "print the version"},
    {"--lifeline", "FD", read_lifeline, NULL},
    {"--control", "FD", read_control, NULL},
    {"--close", "FD", read_close, NULL},
    {"--executable", "PATH", read_executable, NULL},
};

enum { OPTION_COUNT = sizeof OPTIONS / sizeof *OPTIONS };

static const char *print_help(struct options *options, const char *value)
{
    static const char column[] = "                  ";
    (void)options, (void)value;
    print("usage: pdeathsig-run [option ...] [--] command [argument ...]\n\n"
          "Run the command. All that is below it ends when it does, or when the process that started this does.\n\n");
    for (const struct option *option = OPTIONS; option < OPTIONS + OPTION_COUNT; option++) {
        if (option->help == NULL)
            continue;
        const char *argument = option->value == NULL ? "" : option->value;
        const size_t width = length_of(option->name) + 1 + length_of(argument);
        print("  ");
        print(option->name);
        print(" ");
        print(argument);
        print(width < sizeof column ? column + width : "  ");
        print(option->help);
        print("\n");
    }
    print("\nExit status: the command's. 125: not started; 126: cannot be executed; 127: not found.\n");
    exit_with(0);
}

static const char *print_version(struct options *options, const char *value)
{
    (void)options, (void)value;
    print("pdeathsig-run " PDS_VERSION "\n");
    exit_with(0);
}

/* By its name, behind which the argument ends or =VALUE follows. */
static const struct option *find_option(const char *argument)
{
    for (const struct option *option = OPTIONS; option < OPTIONS + OPTION_COUNT; option++) {
        const size_t length = length_of(option->name);
        if (same_text(argument, option->name, (int)length) && (argument[length] == '\0' || argument[length] == '='))
            return option;
    }
    bad(argument, "no such option", NULL);
}

void read_options(struct guard *guard, char **arguments)
{
    struct options *options = &guard->options;
    *options = (struct options){.sig = SIGTERM, .grace_ns = INT64_C(5000000000), .lifeline = -1, .control = -1};
    char **next = arguments[0] == NULL ? arguments : arguments + 1;
    for (; *next != NULL && (*next)[0] == '-'; next++) {
        if (equal(*next, "--")) {
            next++;
            break;
        }
        const struct option *option = find_option(*next);
        const char *value = *next + length_of(option->name);
        if (option->value == NULL) {
            if (*value != '\0')
                bad(*next, "takes no value", NULL);
        } else if (*value == '=') {
            value++;
        } else if ((value = next[1]) != NULL) {
            next++;
        } else {
            bad(option->name, "needs a value", NULL);
        }
        const char *wrong = option->read(options, value);
        if (wrong != NULL)
            bad(option->name, value, wrong);
    }
    options->command = next;
    if (*next == NULL && options->control < 0)
        bad("command", "none given; see --help", NULL);
}
