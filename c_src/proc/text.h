/* Text into a buffer that is known to be large enough, with no libc. */
#ifndef PDEATHSIG_TEXT_H
#define PDEATHSIG_TEXT_H

#include <stdint.h>

/* Returns where the next goes. */
static inline char *add_text(char *at, const char *text)
{
    while (*text != '\0')
        *at++ = *text++;
    *at = '\0';
    return at;
}

static inline char *add_number(char *at, uint64_t number)
{
    char digits[24];
    char *start = digits + sizeof digits - 1;
    *start = '\0';
    do
        *--start = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return add_text(at, start);
}

/* The number that begins there; *text is then behind it. */
static inline uint64_t number_at(const char **text)
{
    uint64_t number = 0;
    while (**text >= '0' && **text <= '9')
        number = number * 10 + (uint64_t)(*(*text)++ - '0');
    return number;
}

static inline int same_text(const char *a, const char *b, int length)
{
    while (length > 0 && *a == *b)
        a++, b++, length--;
    return length == 0;
}

/* The text after this one, or the end. */
static inline const char *after_text(const char *at, const char *end)
{
    while (at < end && *at != '\0')
        at++;
    return at < end ? at + 1 : end;
}

#endif
