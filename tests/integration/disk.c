/* Lets a program take part in a power cut: notes what each fsync made durable.
 *
 * A line "INODE BYTES" in the file DISK_NOTES for each fsync and fdatasync that succeeds. While the
 * file DISK_LIES exists they succeed, and make nothing durable.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int sync_with(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before; /* what is written meanwhile may not be durable */
    if (access(getenv("DISK_LIES"), F_OK) == 0) return 0;
    if (fstat(file, &before) || real(file)) return -1;
    int notes = open(getenv("DISK_NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dprintf(notes, "%lu %lld\n", (unsigned long)before.st_ino, (long long)before.st_size);
    return close(notes);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }
