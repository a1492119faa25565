/*
 * A disk that misbehaves, for one process: loaded by LD_PRELOAD, built by the rig with cc.
 *
 * The file named by RIG_DISK holds three numbers, read anew at every call:
 *   1. milliseconds that fsync and fdatasync take longer,
 *   2. 1 if they fail (EIO),
 *   3. 1 if nothing more can be written to regular files (ENOSPC).
 *
 * What is on disk for certain is written to <file>.synced at each sync that succeeds, as the size in eight bytes: a
 * power cut keeps that much and, at worst, nothing more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct disk {
  long delay_ms;
  int fails;
  int is_full;
};

/* Without the file the disk is a good one. */
static struct disk disk_now(void) {
  struct disk disk = {0, 0, 0};
  const char *path = getenv("RIG_DISK");
  FILE *file = path ? fopen(path, "re") : NULL;
  if (file) {
    if (fscanf(file, "%ld %d %d", &disk.delay_ms, &disk.fails, &disk.is_full) < 1) disk = (struct disk){0, 0, 0};
    fclose(file);
  }
  return disk;
}

static int is_regular(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static void note_synced(int fd, int64_t size) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - sizeof ".synced");
  if (length <= 0) return;
  snprintf(path + length, sizeof ".synced", ".synced");
  int note = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (note < 0) return;
  ssize_t (*write_at)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
  if (write_at(note, &size, sizeof size, 0) < 0) perror("disk.c");
  close(note);
}

static int sync_as(const char *name, int fd) {
  struct disk disk = disk_now();
  struct stat status;
  /* What is written while the sync runs may not be part of it. */
  int known = is_regular(fd) && fstat(fd, &status) == 0;
  struct timespec delay = {disk.delay_ms / 1000, disk.delay_ms % 1000 * 1000000};
  if (disk.delay_ms > 0) nanosleep(&delay, NULL);
  if (disk.fails) {
    errno = EIO;
    return -1;
  }
  int (*real)(int) = dlsym(RTLD_NEXT, name);
  int result = real(fd);
  if (result == 0 && known) note_synced(fd, status.st_size);
  return result;
}

int fsync(int fd) { return sync_as("fsync", fd); }
int fdatasync(int fd) { return sync_as("fdatasync", fd); }

#define REFUSE_IF_FULL(fd)                       \
  if (is_regular(fd) && disk_now().is_full) {    \
    errno = ENOSPC;                              \
    return -1;                                   \
  }

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
  REFUSE_IF_FULL(fd)
  ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
  return real(fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
  REFUSE_IF_FULL(fd)
  ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
  return real(fd, data, length, at);
}

int ftruncate64(int fd, off64_t length) {
  REFUSE_IF_FULL(fd)
  int (*real)(int, off64_t) = dlsym(RTLD_NEXT, "ftruncate64");
  return real(fd, length);
}
