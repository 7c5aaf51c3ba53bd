/* A kernel that answers as the harness says. The harness defines sys6(). */
#define PDS_FAKE_KERNEL

#include <unistd.h>
