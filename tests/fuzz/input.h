/* Strings from an input, each in memory of its exact size, so that a read past its end is seen. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Up to `most` strings, separated by NUL bytes; then NULL. */
static char **strings_in(const uint8_t *data, size_t size, size_t most)
{
    char **list = calloc(most + 1, sizeof *list);
    for (size_t count = 0; count < most && size > 0; count++) {
        size_t length = strnlen((const char *)data, size);
        list[count] = calloc(1, length + 1);
        memcpy(list[count], data, length);
        size_t used = length < size ? length + 1 : length;
        data += used;
        size -= used;
    }
    return list;
}

static void free_strings(char **list)
{
    for (char **string = list; *string != NULL; string++)
        free(*string);
    free(list);
}
