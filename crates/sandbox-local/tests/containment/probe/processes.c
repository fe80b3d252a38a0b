/* Processes of the host: those that `probe host` started. */
#include "probe.h"
#include <linux/kcmp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static pid_t victim(void) { return made_number("pid"); }

static int is_victim(pid_t pid) { return pid == victim(); }
static enum verdict seen(void) {
    return each_process(is_victim) ? say(ESCAPED, "in /proc") : say(CONTAINED, "not in /proc");
}

static int is_kernel(pid_t pid) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY);
    if (fd >= 0 && read(fd, name, sizeof name - 1) < 0) name[0] = 0;
    if (fd >= 0) close(fd);
    return strncmp(name, "kthreadd", 8) == 0;
}
static enum verdict threads_of_kernel(void) {
    return each_process(is_kernel) ? say(ESCAPED, "seen") : say(CONTAINED, "not seen");
}

static enum verdict signalled(void) {
    return victim() > 0 ? refused(kill(victim(), SIGCONT)) : say(UNKNOWN, "nothing was made");
}
static enum verdict traced(void) { return refused(ptrace(PTRACE_SEIZE, victim(), 0, 0)); }

static enum verdict read_memory(pid_t pid) {
    char ours[64] = "";
    struct iovec into = {ours, sizeof ours}, from = {(void *)made_number("address"), sizeof ours};
    return refused(process_vm_readv(pid, &into, 1, &from, 1, 0));
}
static enum verdict memory(void) { return read_memory(victim()); }

static enum verdict memory_file(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", victim());
    return cannot_open(path, O_RDONLY);
}

static enum verdict compared(void) {
    return refused(syscall(SYS_kcmp, getpid(), victim(), KCMP_FILES, 0, 0));
}

static enum verdict take_descriptor(pid_t pid) {
    int handle = syscall(SYS_pidfd_open, pid, 0);
    if (handle < 0) return say(CONTAINED, "%s", strerrorname_np(errno));
    for (int fd = 0; fd < 16; fd++)
        if (syscall(SYS_pidfd_getfd, handle, fd, 0) >= 0) return say(ESCAPED, "its %d", fd);
    return say(CONTAINED, "%s", strerrorname_np(errno));
}
static enum verdict descriptor(void) { return take_descriptor(victim()); }

static enum verdict namespace(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/uts", victim());
    int fd = open(path, O_RDONLY);
    if (fd < 0) return say(CONTAINED, "%s", strerrorname_np(errno));
    return refused(setns(fd, CLONE_NEWUTS));
}

const struct property processes[] = {
    {"process-of-host-seen", seen}, {"threads-of-kernel", threads_of_kernel},
    {"process-of-host-signalled", signalled}, {"process-of-host-traced", traced},
    {"process-of-host-read", memory}, {"memory-file-of-host", memory_file},
    {"process-of-host-compared", compared}, {"descriptor-of-host-taken", descriptor},
    {"namespace-of-host-joined", namespace}, {NULL, NULL}};

/* The process that runs the commands. */

static const char *its(const char *file) {
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", keeper, file);
    return path;
}
#define NEEDS_KEEPER if (keeper <= 0) return say(UNKNOWN, "nobody runs it")

static enum verdict keeper_file(const char *file, int flags) {
    NEEDS_KEEPER;
    return cannot_open(its(file), flags);
}
static enum verdict keeper_memory(void) { return keeper_file("mem", O_RDONLY); }
static enum verdict keeper_environment(void) { return keeper_file("environ", O_RDONLY); }
static enum verdict keeper_root(void) { return keeper_file("root/", O_RDONLY); }
static enum verdict keeper_descriptors(void) { return keeper_file("fd", O_RDONLY); }
static enum verdict keeper_program(void) { return keeper_file("exe", O_RDONLY); }
static enum verdict keeper_score(void) { return keeper_file("oom_score_adj", O_WRONLY); }

static enum verdict keeper_traced(void) {
    NEEDS_KEEPER;
    return refused(ptrace(PTRACE_SEIZE, keeper, 0, 0));
}
static enum verdict keeper_read(void) {
    NEEDS_KEEPER;
    char byte;
    struct iovec ours = {&byte, 1}, theirs = {&byte, 1};
    long answer = process_vm_readv(keeper, &ours, 1, &theirs, 1, 0);
    if (answer == -1 && errno == EFAULT) return say(ESCAPED, "only the address was wrong");
    return refused(answer);
}
static enum verdict keeper_descriptor(void) {
    NEEDS_KEEPER;
    return take_descriptor(keeper);
}

/* A stopped process runs no more commands. It goes on at once. */
static enum verdict keeper_stopped(void) {
    NEEDS_KEEPER;
    char text[256] = "", *state = NULL;
    if (kill(keeper, SIGSTOP)) return say(CONTAINED, "%s", strerrorname_np(errno));
    usleep(30000);
    int fd = open(its("stat"), O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0) state = strrchr(text, ')');
    kill(keeper, SIGCONT);
    int stopped = state && state[1] && state[2] == 'T';
    return say(stopped ? ESCAPED : CONTAINED, stopped ? "stopped" : "goes on");
}

static enum verdict keeper_limited(void) {
    NEEDS_KEEPER;
    struct { unsigned long soft, hard; } limit;
    return refused(syscall(SYS_prlimit64, keeper, 7, NULL, &limit));
}

const struct property supervisor[] = {
    {"guest-memory", keeper_memory}, {"guest-environment", keeper_environment},
    {"guest-root", keeper_root}, {"guest-descriptors", keeper_descriptors},
    {"guest-program", keeper_program}, {"guest-oom-score", keeper_score},
    {"guest-traced", keeper_traced}, {"guest-read", keeper_read},
    {"guest-descriptor-taken", keeper_descriptor}, {"guest-stopped", keeper_stopped},
    {"guest-limits", keeper_limited}, {NULL, NULL}};
