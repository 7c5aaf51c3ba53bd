/* A replacement for libFuzzer where there is only gcc: it tries the seeds, then random inputs made
 * of them, in every run the same.
 *
 * driver [-runs=N] [-max_total_time=SECONDS] DIRECTORY; it ignores libFuzzer's other options. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONGEST = 1024, SEEDS = 64 };

static struct input {
    size_t size;
    uint8_t data[LONGEST];
} seeds[SEEDS];
static size_t count;
static uint64_t state = 1;

static size_t chance(size_t below)
{
    state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (size_t)(state >> 33) % below;
}

static void read_seeds(const char *path)
{
    char name[512];
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && count < SEEDS && (entry = readdir(directory)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(name, "rb");
        if (file == NULL)
            continue;
        seeds[count].size = fread(seeds[count].data, 1, LONGEST, file);
        count++;
        fclose(file);
    }
    if (directory != NULL)
        closedir(directory);
}

/* Puts a piece of one seed into another, then changes some bytes. */
static void mix(struct input *input)
{
    static const uint8_t special[] = {0, ' ', ')', '(', ':', '=', '-', ',', '9', '/', '\n', 0xff};
    const struct input *other = &seeds[chance(count)];
    *input = seeds[chance(count)];
    size_t from = chance(other->size + 1), length = chance(other->size - from + 1), at = chance(input->size + 1);
    if (chance(2) && input->size + length <= LONGEST) {
        memmove(input->data + at + length, input->data + at, input->size - at);
        memcpy(input->data + at, other->data + from, length);
        input->size += length;
    }
    for (size_t i = chance(8); i > 0 && input->size > 0; i--)
        input->data[chance(input->size)] = chance(2) ? special[chance(sizeof special)] : (uint8_t)chance(256);
    if (chance(4) == 0)
        input->size = chance(input->size + 1);
}

static void run(const struct input *input)
{
    uint8_t *data = malloc(input->size > 0 ? input->size : 1); /* of the exact size, for AddressSanitizer */
    memcpy(data, input->data, input->size);
    LLVMFuzzerTestOneInput(data, input->size);
    free(data);
}

int main(int n, char **arguments)
{
    long runs = -1, seconds = 0, done = 0;
    for (int i = 1; i < n; i++) {
        if (arguments[i][0] != '-')
            read_seeds(arguments[i]);
        sscanf(arguments[i], "-runs=%ld", &runs);
        sscanf(arguments[i], "-max_total_time=%ld", &seconds);
    }
    if (count == 0)
        return 1;
    const time_t until = time(NULL) + seconds;
    for (size_t i = 0; i < count; i++, done++)
        run(&seeds[i]);
    for (struct input input; (runs < 0 || done < runs) && (done % 1000 != 0 || time(NULL) <= until); done++) {
        mix(&input);
        run(&input);
    }
    fprintf(stderr, "stat::number_of_executed_units: %ld\n", done);
    return 0;
}
