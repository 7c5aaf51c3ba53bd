/* The library's socket: a word to it when the command is started, or could not be; then signals from it. */
#include "guard.h"

#include <sys/socket.h>

enum { STARTED = 1 };

struct message {
    int32_t what, value;
};

static bool send_message(const struct guard *guard, int what, int value)
{
    const struct message message = {what, value};
    long sent = 0;
    if (guard->options.control < 0)
        return true;
    do
        sent =
            sys6(SYS_sendto, guard->options.control, (long)&message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    while (sent == -EINTR);
    return sent >= 0 || sent == -EPIPE;
}

bool report_started(const struct guard *guard)
{
    return send_message(guard, STARTED, guard->child);
}

void report_failure(const struct guard *guard, int what, int error)
{
    send_message(guard, what, error);
}

int read_request(const struct guard *guard)
{
    struct message message;
    long length = sys6(SYS_recvfrom, guard->options.control, (long)&message, sizeof message, MSG_DONTWAIT, 0, 0);
    if (length == 0 || (length < 0 && length != -EAGAIN && length != -EINTR))
        return -1;
    return length == sizeof message && message.value > 0 && message.value <= NEWS ? message.value : 0;
}
