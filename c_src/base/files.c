/* Files: what others may have put in the place of one, and what is in one. */
#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The program may have closed all descriptors that it did not know, and opened a file there. */
bool pds_is_file(int fd, const struct stat *file)
{
    struct stat now;
    return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == file->st_dev && now.st_ino == file->st_ino;
}

void pds_each_line(const char *path, bool (*goes_on)(void *with, const char *line, size_t length), void *with)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    while (file != NULL && (length = getline(&line, &size, file)) > 0 && goes_on(with, line, (size_t)length))
        ;
    free(line);
    if (file != NULL)
        fclose(file);
}
