/* Moves the wall clock of one process by the nanoseconds that a file holds; monotonic clocks stay.
   LD_PRELOAD it with TALLYGATE_TEST_CLOCK naming a file of 8 bytes, which may change at any time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static int64_t nothing;
static volatile int64_t *offset = &nothing;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void load(void) {
  if (real_clock_gettime) return;
  real_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  const char *path = getenv("TALLYGATE_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *shared = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) offset = shared;
  close(file);
}

static void move(struct timespec *at, int64_t by) {
  int64_t ns = (int64_t)at->tv_sec * SECOND + at->tv_nsec + by;
  at->tv_sec = ns / SECOND;
  at->tv_nsec = ns % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  load();
  int failed = real_clock_gettime(clock, at);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(at, *offset);
  return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  if (!failed) {
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
  }
  return failed;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

/* A deadline on the moved clock is one on the kernel's, that much earlier. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  load();
  struct timespec meant = *until;
  move(&meant, -*offset);
  return real_sem_timedwait(semaphore, &meant);
}
