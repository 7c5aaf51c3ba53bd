/* Files: what others may have put in the place of one. */
#include "base.h"

#include <sys/stat.h>

/* The program may have closed all descriptors that it did not know, and opened a file there. */
bool pds_is_file(int fd, const struct stat *file)
{
    struct stat now;
    return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == file->st_dev && now.st_ino == file->st_ino;
}
