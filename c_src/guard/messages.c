/* Messages: between the guard's two processes, and with the library. */
#include "guard.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A message is a carrier signal with this si_code, which neither kill(2) nor sigqueue(3) gives to a
 * signal. Its value holds the fields, from the lowest bit on: kind, signal, PID, number of the
 * stop. */
enum { MESSAGE_CODE = -64, KIND_BITS = 3, SIGNAL_BITS = 7, PID_BITS = 22 };

static uint64_t encode_message(struct message message)
{
    uint64_t value = message.stop;
    value = value << PID_BITS | (uint64_t)message.pid;
    value = value << SIGNAL_BITS | (uint64_t)message.sig;
    return value << KIND_BITS | (uint64_t)message.kind;
}

static uint64_t take_bits(uint64_t *value, int count)
{
    const uint64_t bits = *value & ((UINT64_C(1) << count) - 1);
    *value >>= count;
    return bits;
}

struct message decode_message(const struct signal *signal, pid_t sender)
{
    struct message message = {.kind = NO_MESSAGE};
    uint64_t value = signal->value;
    if (signal->number != CARRIER || signal->code != MESSAGE_CODE || signal->sender != sender)
        return message;
    message.kind = (enum message_kind)take_bits(&value, KIND_BITS);
    message.sig = (int)take_bits(&value, SIGNAL_BITS);
    message.pid = (pid_t)take_bits(&value, PID_BITS);
    message.stop = (uint32_t)value;
    return message;
}

static bool queue_signal(pid_t to, int sig, int code, uint64_t value)
{
    siginfo_t info = {.si_signo = sig, .si_code = code};
    info.si_pid = (pid_t)sys0(SYS_getpid);
    info.si_uid = (uid_t)sys0(SYS_getuid);
    info.si_value.sival_ptr = (void *)(uintptr_t)value;
    return sys3(SYS_rt_sigqueueinfo, to, sig, &info) == 0;
}

bool send_message(pid_t to, struct message message)
{
    return queue_signal(to, CARRIER, MESSAGE_CODE, encode_message(message));
}

/* With the value that sigqueue(3) gave it. The kernel lets no process imitate another's kill(2). */
void forward_signal(pid_t to, const struct signal *signal)
{
    if (signal->code != SI_QUEUE || !queue_signal(to, signal->number, SI_QUEUE, signal->value))
        sys2(SYS_kill, to, signal->number);
}

/* --linger: what the command leaves behind, such as a server in the background, lives on while the
 * caller does. The caller waits for the monitor, so the monitor exits. The reaper stays: it is the
 * only possible subreaper of those processes. Not if the monitor's parent-death signal alone tells
 * of the caller's death. */
void share_command_end(struct guard *guard)
{
    if (guard->options.linger && guard->options.scope != SCOPE_CHILD && !guard->caller_by_signal)
        guard->command_end = (struct command_end *)map_or_fail(guard, sizeof *guard->command_end, MAP_SHARED);
}

void release_monitor(struct guard *guard)
{
    sys2(SYS_prctl, PR_SET_PDEATHSIG, 0);
    guard->command_end->end = guard->child.end;
    __atomic_store_n(&guard->command_end->is_told, true, __ATOMIC_RELEASE);
    sys2(SYS_kill, guard->monitor, CARRIER);
    guard->monitor = 0; /* its PID may soon be another's */
}

bool monitor_is_released(const struct guard *guard)
{
    return guard->command_end != NULL && __atomic_load_n(&guard->command_end->is_told, __ATOMIC_ACQUIRE);
}

/* What the library's socket carries, both ways. */
struct packet {
    int32_t what, value;
};

bool report(const struct guard *guard, enum report what, int value)
{
    const struct packet packet = {(int32_t)what, value};
    const int fd = guard->options.control;
    long sent = 0;
    if (fd < 0)
        return true;
    do
        sent = sys6(SYS_sendto, fd, (long)&packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    while (sent == -EINTR);
    return sent >= 0 || sent == -EPIPE;
}

int read_request(const struct guard *guard)
{
    struct packet packet;
    long length = sys6(SYS_recvfrom, guard->options.control, (long)&packet, sizeof packet, MSG_DONTWAIT, 0, 0);
    if (length == 0 || (length < 0 && length != -EAGAIN && length != -EINTR))
        return -1;
    return length == sizeof packet && packet.value > 0 && packet.value <= LAST_SIGNAL ? packet.value : 0;
}

void fail(const struct guard *guard, int error, const char *what)
{
    report(guard, GUARD_FAILED, error);
    if (guard->options.control < 0)
        print_line(STDERR_FILENO, PARTS(what, ": ", error_text(error)));
    exit_with(NOT_STARTED);
}

void prctl_or_fail(const struct guard *guard, int option, long value)
{
    long r = sys5(SYS_prctl, option, value, 0, 0, 0);
    if (r < 0)
        fail(guard, (int)-r, "prctl");
}

long map_or_fail(const struct guard *guard, size_t size, int flags)
{
    long at = sys6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        fail(guard, (int)-at, "mmap");
    return at;
}
