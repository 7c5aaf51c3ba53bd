/* The command line. A new option is a line in OPTIONS, a function that reads it, and a field in
 * struct options. */
#include "guard.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000, LONGEST = INT64_C(10) * 365 * 86400 * 1000000000;

/* SIGRTMIN: the C library keeps those before it for itself. */
#ifdef __GLIBC__
enum { FIRST_REALTIME = 34 };
#else
enum { FIRST_REALTIME = 35 };
#endif

static const struct {
    char name[7];
    unsigned char number;
} SIGNALS[] = {
    {"HUP", SIGHUP},
    {"INT", SIGINT},
    {"QUIT", SIGQUIT},
    {"ILL", SIGILL},
    {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT},
    {"BUS", SIGBUS},
    {"FPE", SIGFPE},
    {"KILL", SIGKILL},
    {"USR1", SIGUSR1},
    {"SEGV", SIGSEGV},
    {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE},
    {"ALRM", SIGALRM},
    {"TERM", SIGTERM},
    {"CHLD", SIGCHLD},
    {"CONT", SIGCONT},
    {"STOP", SIGSTOP},
    {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},
    {"URG", SIGURG},
    {"XCPU", SIGXCPU},
    {"XFSZ", SIGXFSZ},
    {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},
    {"WINCH", SIGWINCH},
    {"IO", SIGIO},
    {"PWR", SIGPWR},
    {"SYS", SIGSYS},
#ifdef SIGSTKFLT
    {"STKFLT", SIGSTKFLT},
#endif
    {"RTMIN", FIRST_REALTIME},
    {"RTMAX", LAST_SIGNAL},
    /* other names of some */
    {"CLD", SIGCHLD},
    {"IOT", SIGABRT},
    {"POLL", SIGIO},
};

enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS };

#define BIT(sig) (UINT64_C(1) << ((sig) - 1))
/* By default these are ignored, or stop a process: it would live on. */
static const uint64_t END_NO_PROCESS = BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) |
                                       BIT(SIGTTOU) | BIT(SIGURG) | BIT(SIGWINCH);

/* Reads a value into options. Returns what is wrong with it, or NULL. */
typedef const char *read_value(struct options *options, const char *value);

struct option {
    char letter; /* 0: none */
    const char *name;
    const char *value; /* what --help calls it; NULL: it takes none */
    read_value *read;
    const char *help; /* NULL: for the library alone, so --help does not show it */
};

static _Noreturn void usage_error(const char *const *parts)
{
    static const char hint[] = "Try 'pdeathsig-run --help'.\n";
    print_line(STDERR_FILENO, parts);
    sys3(SYS_write, STDERR_FILENO, hint, sizeof hint - 1);
    exit_with(NOT_STARTED);
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
    char upper[sizeof "SIGVTALRM"] = "";
    if (is_number(text, LAST_SIGNAL, &number))
        return (int)number;
    if (length_of(text) >= sizeof upper)
        return 0;
    for (char *at = upper; *text != '\0'; text++)
        *at++ = (char)(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
    const char *name = same_text(upper, "SIG", 3) ? upper + 3 : upper;
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (equal(name, SIGNALS[i].name))
            return SIGNALS[i].number;
    }
    return 0;
}

const char *name_signal(char *name, int sig)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (SIGNALS[i].number == sig) {
            add_text(add_text(name, "SIG"), SIGNALS[i].name);
            return name;
        }
    }
    add_number(add_text(name, "signal "), (uint64_t)sig);
    return name;
}

static const char *read_signal(struct options *options, const char *value)
{
    options->sig = signal_number(value);
    if (options->sig == 0)
        return " is not a signal; give a name such as TERM or SIGTERM, or a number from 1 to 64";
    if (END_NO_PROCESS & BIT(options->sig))
        return " ends no process; give a signal that does, such as TERM or KILL";
    return NULL;
}

/* Decimal, up to nanoseconds. */
static const char *read_duration(int64_t *ns, const char *value)
{
    static const struct {
        char name[3];
        int64_t ns;
    } units[] = {{"", SECOND}, {"s", SECOND}, {"ms", SECOND / 1000}, {"m", 60 * SECOND}};
    const char *at = value;
    const uint64_t whole = number_at(&at);
    bool good = at - value < 19; /* so many fit */
    const char *fraction = at;
    if (*at == '.') {
        fraction = ++at;
        number_at(&at);
        good = good && at > value + 1;
    } else {
        good = good && at > value;
    }
    for (size_t i = 0; good && i < sizeof units / sizeof *units; i++) {
        int64_t part = units[i].ns;
        if (!equal(at, units[i].name) || whole > (uint64_t)(LONGEST / part))
            continue;
        *ns = (int64_t)whole * part;
        for (; fraction < at; fraction++)
            *ns += (*fraction - '0') * (part /= 10);
        return NULL;
    }
    return " is not a duration; give seconds, such as 5 or 0.5, or 5s, 500ms, 2m (at most ten years)";
}

static const char *read_grace(struct options *options, const char *value)
{
    return read_duration(&options->grace_ns, value);
}

static const char *read_timeout(struct options *options, const char *value)
{
    const char *wrong = read_duration(&options->timeout_ns, value);
    return wrong == NULL && options->timeout_ns == 0 ? " is no time at all; give more, such as 5, 500ms, 2m" : wrong;
}

static const char *read_scope(struct options *options, const char *value)
{
    static const char names[][6] = {[SCOPE_TREE] = "tree", [SCOPE_GROUP] = "group", [SCOPE_CHILD] = "child"};
    for (int scope = SCOPE_TREE; scope <= SCOPE_CHILD; scope++) {
        options->scope = (enum scope)scope;
        if (equal(value, names[scope]))
            return NULL;
    }
    return " is not a scope; give tree, group or child";
}

/* PID, or PID:START with the start time of proc_pid_stat(5): no other process has both. */
static const char *read_parent(struct options *options, const char *value)
{
    static const char not_a_process[] = " is not a process; give a PID, or PID:START with its start time";
    const char *at = value;
    uint64_t pid = number_at(&at);
    if (at == value || at - value > 10 || pid == 0 || pid > INT_MAX || (*at != '\0' && *at != ':'))
        return not_a_process;
    options->parent = (pid_t)pid;
    if (*at == ':' && !is_number(at + 1, INT64_MAX, &options->parent_start))
        return not_a_process;
    return NULL;
}

static const char *read_linger(struct options *options, const char *value)
{
    (void)value;
    options->linger = true;
    return NULL;
}

static const char *read_verbose(struct options *options, const char *value)
{
    (void)value;
    options->verbose = true;
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

#define COLUMN "                          " /* where --help explains */

static const struct option OPTIONS[] = {
    {'s', "--signal", "SIGNAL", read_signal, "what all processes get first, by name or number (TERM)"},
    {'k', "--grace", "DURATION", read_grace,
     "from that to SIGKILL: 5, 0.5, 5s, 500ms, 2m\n" COLUMN "(5; 0: SIGKILL at once)"},
    {0, "--timeout", "DURATION", read_timeout, "end everything after that time, with exit status 124"},
    {0, "--scope", "SCOPE", read_scope,
     "tree: all that is below the command; group: what is\n" COLUMN
     "in its process group; child: the command alone (tree)"},
    {0, "--parent", "PID", read_parent, "also end when that process does"},
    {0, "--linger", NULL, read_linger,
     "what the command leaves behind may live as long as\n" COLUMN "the process that started this"},
    {'v', "--verbose", NULL, read_verbose, "say on stderr what it does and waits for, and what\n" COLUMN "did not end"},
    {'h', "--help", NULL, print_help, "print this"},
    {0, "--version", NULL, print_version, "print the version"},
    {0, "--lifeline", "FD", read_lifeline, NULL},
    {0, "--control", "FD", read_control, NULL},
    {0, "--close", "FD", read_close, NULL},
    {0, "--executable", "PATH", read_executable, NULL},
};

static const struct option *const OPTIONS_END = OPTIONS + sizeof OPTIONS / sizeof *OPTIONS;

static const char *print_help(struct options *options, const char *value)
{
    (void)options, (void)value;
    print("usage: pdeathsig-run [option ...] [--] command [argument ...]\n\n"
          "Run the command. All that is below it ends when it does, or when the process that\n"
          "started this does.\n\n");
    for (const struct option *option = OPTIONS; option < OPTIONS_END; option++) {
        const char letter[] = {' ', ' ', '-', option->letter, ',', ' ', '\0'};
        const char *argument = option->value == NULL ? "" : option->value;
        if (option->help == NULL)
            continue;
        print(option->letter == 0 ? "      " : letter);
        print(option->name);
        print(" ");
        print(argument);
        print(&COLUMN[sizeof letter + length_of(option->name) + length_of(argument)]);
        print(option->help);
        print("\n");
    }
    print("\nExit status: the command's. 124: the time of --timeout was over; 125: not started;\n"
          "126: cannot be executed; 127: not found.\n");
    exit_with(0);
}

static const char *print_version(struct options *options, const char *value)
{
    (void)options, (void)value;
    print("pdeathsig-run " PDS_VERSION "\n");
    exit_with(0);
}

/* Of --NAME, --NAME=VALUE, or a letter. */
static const struct option *find_option(const char *argument, char letter)
{
    for (const struct option *option = OPTIONS; option < OPTIONS_END; option++) {
        const size_t length = length_of(option->name);
        if (letter != '-' ? option->letter == letter
                          : same_text(argument, option->name, (int)length) &&
                                (argument[length] == '\0' || argument[length] == '='))
            return option;
    }
    usage_error(PARTS(argument, ": no such option"));
}

/* Its value is in the same argument, or else (NULL) it is the next one. Returns the last argument
 * that was read. */
static char **read_option(struct options *options, const struct option *option, const char *value, char **next)
{
    if (value == NULL && option->value != NULL && (value = *++next) == NULL)
        usage_error(PARTS(option->name, ": needs a value"));
    const char *wrong = option->read(options, value);
    if (wrong != NULL)
        usage_error(PARTS(option->name, ": '", value, "'", wrong));
    return next;
}

/* Such as -v, -k5, -vk 5. */
static char **read_letters(struct options *options, char **next)
{
    for (const char *at = *next + 1;;) {
        const struct option *option = find_option(*next, *at++);
        if (*at == '\0')
            return read_option(options, option, NULL, next);
        if (option->value != NULL)
            return read_option(options, option, at, next);
        read_option(options, option, NULL, next);
    }
}

static char **read_name(struct options *options, char **next)
{
    const struct option *option = find_option(*next, '-');
    const char *value = *next + length_of(option->name);
    if (*value == '\0')
        return read_option(options, option, NULL, next);
    if (option->value == NULL)
        usage_error(PARTS(*next, ": takes no value"));
    return read_option(options, option, value + 1, next);
}

void read_options(struct guard *guard, char **arguments)
{
    struct options *options = &guard->options;
    *options = (struct options){.sig = SIGTERM, .grace_ns = 5 * SECOND, .lifeline = -1, .control = -1};
    char **next = arguments[0] == NULL ? arguments : arguments + 1;
    for (; *next != NULL && (*next)[0] == '-' && (*next)[1] != '\0'; next++) {
        if (equal(*next, "--")) {
            next++;
            break;
        }
        next = (*next)[1] == '-' ? read_name(options, next) : read_letters(options, next);
    }
    options->command = next;
    if (*next == NULL && options->control < 0)
        usage_error(PARTS("command: none given"));
}
