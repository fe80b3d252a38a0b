/* What a command can use up, and memory that others share. */
#include "probe.h"
#include <mqueue.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/statvfs.h>

/* More than any sandbox allows. */
enum { MANY = 5000 };

static int wait_for_end(void *gate) {
    char byte;
    if (read(*(int *)gate, &byte, 1)) _exit(0);
    return 0;
}

/* They share memory, so that they cost little. All end when the pipe does. */
static enum verdict many_processes(void) {
    int ends[2], count = 0;
    enum { STACK = 4096 };
    if (pipe(ends)) return say(UNKNOWN, "no pipe");
    char *stacks = mmap(NULL, (size_t)MANY * STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) return say(UNKNOWN, "no memory");
    while (count < MANY && clone(wait_for_end, stacks + (size_t)(count + 1) * STACK, CLONE_VM | CLONE_FILES,
                                 &ends[0]) > 0)
        count++;
    int error = errno;
    close(ends[1]);
    while (waitpid(-1, NULL, __WALL) > 0) {}
    if (count == MANY) return say(ESCAPED, "%d", count);
    return say(CONTAINED, "%s after %d", strerrorname_np(error), count);
}

static enum verdict cores(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    return say(limit.rlim_max ? ESCAPED : CONTAINED, "%lld", (long long)limit.rlim_max);
}
static enum verdict limit_raised(void) {
    struct rlimit limit = {1, 1};
    if (setrlimit(RLIMIT_CORE, &limit) == 0) return say(ESCAPED, "cores may have a byte");
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_max++;
    return refused(setrlimit(RLIMIT_NOFILE, &limit));
}
/* What lies in memory counts against the host's; a disk is not there for temporary files. */
static enum verdict temporary_files(void) {
    struct statvfs found;
    if (statvfs("/tmp", &found)) return say(CONTAINED, "no /tmp");
    unsigned long long mib = (unsigned long long)found.f_blocks * found.f_frsize >> 20;
    return say(mib > 4096 ? ESCAPED : CONTAINED, "%llu MiB", mib);
}
static enum verdict spared(void) {
    int fd = open("/proc/self/oom_score_adj", O_RDWR), score = 0;
    char text[16] = "";
    if (fd < 0 || read(fd, text, sizeof text - 1) < 1) return say(UNKNOWN, "no score");
    sscanf(text, "%d", &score);
    if (score <= 0) return say(ESCAPED, "score %d", score);
    return refused(write(fd, "-1000", 5));
}
static enum verdict locked_memory(void) {
    size_t size = 64 << 20;
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return refused(mlock(pages, size));
}
/* What the kernel counts for whoever made the sandbox as well, or for all of the machine. */
static enum verdict signals(void) {
    enum { WANTED = 5000 };
    sigset_t held;
    int count = 0;
    sigemptyset(&held);
    sigaddset(&held, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &held, NULL);
    while (count < WANTED && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) count++;
    return say(count == WANTED ? ESCAPED : CONTAINED, "%d", count);
}
static enum verdict terminals(void) {
    enum { WANTED = 200 };
    int all[WANTED], count = 0;
    while (count < WANTED && (all[count] = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0) count++;
    for (int at = 0; at < count; at++) close(all[at]);
    return say(count == WANTED ? ESCAPED : CONTAINED, "%d", count);
}
static enum verdict watchers(void) {
    enum { WANTED = 48 };
    int all[WANTED], count = 0;
    while (count < WANTED && (all[count] = inotify_init1(0)) >= 0) count++;
    for (int at = 0; at < count; at++) close(all[at]);
    return say(count == WANTED ? ESCAPED : CONTAINED, "%d", count);
}
static enum verdict requests(void) {
    unsigned long context = 0;
    return refused(syscall(SYS_io_setup, 1, &context));
}
static enum verdict shared_memory(void) { return refused(shmget(made_number("ipckey"), 0, 0)); }
static enum verdict semaphores(void) { return refused(semget(made_number("ipckey"), 0, 0)); }
static enum verdict queue(void) {
    const char *name = made("queue");
    return name ? refused(mq_open(name, O_RDONLY | O_NONBLOCK)) : say(UNKNOWN, "nothing was made");
}
static enum verdict shared_file(void) {
    const char *path = made("shared");
    return path ? cannot_open(path, O_RDONLY) : say(UNKNOWN, "nothing was made");
}

const struct property resources[] = {
    {"processes-bounded", many_processes}, {"core-dumps", cores}, {"limits-raised", limit_raised},
    {"temporary-files", temporary_files}, {"oom-score", spared}, {"locked-memory", locked_memory},
    {"signals-queued", signals}, {"terminals-opened", terminals}, {"watchers-made", watchers},
    {"asynchronous-requests", requests},
    {"shared-memory-of-host", shared_memory}, {"semaphores-of-host", semaphores},
    {"queue-of-host", queue}, {"shared-file-of-host", shared_file}, {NULL, NULL}};
