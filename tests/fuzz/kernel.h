/* A kernel that answers as the harness says: it defines sys6(). */
#define PDS_FAKE_KERNEL

#include <unistd.h>
