/* The command line. A new option is one line in OPTIONS, one function that reads its value, and one field in struct
 * options (guard.h). */
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

/* Reads the value into options. */
typedef void read_value(struct options *options, const char *option, const char *value);

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

static void read_signal(struct options *options, const char *option, const char *value)
{
    uint64_t number;
    if (is_number(value, LAST_SIGNAL, &number) && number > 0) {
        options->sig = (int)number;
        return;
    }
    const char *name = same_text(value, "SIG", 3) ? value + 3 : value;
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        if (equal(name, SIGNALS[i].name)) {
            options->sig = SIGNALS[i].number;
            return;
        }
    }
    bad(option, value, " is not a signal's name or number");
}

/* Decimal, up to nanoseconds. */
static void read_grace(struct options *options, const char *option, const char *value)
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
    options->grace_ns = (int64_t)seconds * 1000000000 + ns;
}

static void read_scope(struct options *options, const char *option, const char *value)
{
    if (equal(value, "tree"))
        options->scope = SCOPE_TREE;
    else if (equal(value, "group"))
        options->scope = SCOPE_GROUP;
    else if (equal(value, "child"))
        options->scope = SCOPE_CHILD;
    else
        bad(option, value, " is not tree, group or child");
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

static void read_linger(struct options *options, const char *option, const char *value)
{
    (void)option, (void)value;
    options->linger = true;
}

/* The command is not to have it. */
static int take_descriptor(const char *option, const char *value)
{
    uint64_t fd;
    if (!is_number(value, INT_MAX, &fd) || sys2(SYS_fcntl, fd, F_GETFD) < 0)
        bad(option, value, " is not an open descriptor");
    set_close_on_exec((int)fd);
    return (int)fd;
}

/* The library may have armed it so that its hang-up sends SIGKILL: that ends here (fcntl(2), O_ASYNC). */
static void read_lifeline(struct options *options, const char *option, const char *value)
{
    options->lifeline = take_descriptor(option, value);
    sys3(SYS_fcntl, options->lifeline, F_SETFL, O_NONBLOCK);
}

static void read_control(struct options *options, const char *option, const char *value)
{
    options->control = take_descriptor(option, value);
}

/* The guard itself was executed by this descriptor. */
static void read_close(struct options *options, const char *option, const char *value)
{
    (void)options;
    take_descriptor(option, value);
}

static void read_executable(struct options *options, const char *option, const char *value)
{
    (void)option;
    options->executable = value;
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

static void print_help(struct options *options, const char *name, const char *value)
{
    static const char column[] = "                  ";
    (void)options, (void)name, (void)value;
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

static void print_version(struct options *options, const char *option, const char *value)
{
    (void)options, (void)option, (void)value;
    print("pdeathsig-run " PDS_VERSION "\n");
    exit_with(0);
}

/* It is that option, or that option with =VALUE. */
static bool is_option(const char *argument, const struct option *option)
{
    const size_t length = length_of(option->name);
    return same_text(argument, option->name, (int)length) && (argument[length] == '\0' || argument[length] == '=');
}

static const struct option *find_option(const char *argument)
{
    for (const struct option *option = OPTIONS; option < OPTIONS + OPTION_COUNT; option++) {
        if (is_option(argument, option))
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
        option->read(options, option->name, value);
    }
    options->command = next;
    if (*next == NULL && options->control < 0)
        bad("command", "none given; see --help", NULL);
}
