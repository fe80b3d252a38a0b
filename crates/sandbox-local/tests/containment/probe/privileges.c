/* Who a command is, and who it can become. */
#include "probe.h"
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

/* The id that the file system of the host would see. */
static long outer(const char *map, long id) {
    long inside, outside, count, found = -1;
    FILE *list = fopen(map, "r");
    while (list && fscanf(list, "%ld %ld %ld", &inside, &outside, &count) == 3)
        if (id >= inside && id < inside + count) found = outside + id - inside;
    if (list) fclose(list);
    return found;
}
static enum verdict root(void) {
    long id = outer("/proc/self/uid_map", geteuid());
    return say(id == 0 ? ESCAPED : CONTAINED, "user %ld of the host", id);
}
static enum verdict held(void) {
    unsigned long long all = status_of(getpid(), "CapEff:") | status_of(getpid(), "CapPrm:") |
                             status_of(getpid(), "CapInh:") | status_of(getpid(), "CapAmb:");
    return say(all ? ESCAPED : CONTAINED, "%llx", all);
}
static enum verdict bounding(void) {
    unsigned long long all = status_of(getpid(), "CapBnd:");
    return say(all ? ESCAPED : CONTAINED, "%llx", all);
}
static enum verdict gains(void) {
    int set = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return say(set == 1 ? CONTAINED : ESCAPED, "%d", set);
}
static enum verdict filtered(void) {
    unsigned long long mode = status_of(getpid(), "Seccomp:");
    return say(mode == 2 ? CONTAINED : ESCAPED, "%llu", mode);
}
static enum verdict to_root(void) {
    return geteuid() == 0 ? say(ESCAPED, "it is") : refused(setuid(0));
}
static enum verdict to_group(void) {
    return getegid() == 0 ? say(ESCAPED, "it is") : refused(setgid(0));
}
static enum verdict groups(void) {
    gid_t group = getegid();
    return refused(setgroups(1, &group));
}

/* `su` waits for a password; while it does, who it is shows. */
static enum verdict set_id_program(void) {
    static const char *const programs[] = {"/usr/bin/su", "/bin/su", "/usr/bin/passwd", NULL};
    int ends[2];
    struct stat found;
    for (const char *const *at = programs; *at; at++) {
        if (stat(*at, &found) || !(found.st_mode & S_ISUID) || pipe(ends)) continue;
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[0], 0);
            dup2(open("/dev/null", O_WRONLY), 1);
            dup2(1, 2);
            execl(*at, *at, NULL);
            _exit(1);
        }
        unsigned long long effective = 1;
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/status", child);
        for (int look = 0; look < 40 && effective; look++) {
            usleep(5000);
            FILE *status = fopen(path, "r");
            while (status && fgets(line, sizeof line, status))
                sscanf(line, "Uid: %*u %llu", &effective);
            if (status) fclose(status);
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (effective == 0 && outer("/proc/self/uid_map", 0) == 0)
            return say(ESCAPED, "%s is root", *at);
        return say(CONTAINED, "%s is user %llu", *at, effective);
    }
    return say(UNKNOWN, "no such program");
}

static enum verdict given_away(void) {
    char path[300];
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    enum verdict verdict = refused(chown(path, 1, 1));
    unlink(path);
    rmdir(folder);
    return verdict;
}
static enum verdict node(mode_t kind, dev_t device) {
    char path[300];
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    snprintf(path, sizeof path, "%s/node", folder);
    enum verdict verdict = refused(mknod(path, kind | 0600, device));
    int fd = verdict == ESCAPED ? open(path, O_RDONLY | O_NONBLOCK) : -1;
    if (verdict == ESCAPED && fd < 0) verdict = say(CONTAINED, "made; %s", strerrorname_np(errno));
    unlink(path);
    rmdir(folder);
    return verdict;
}
static enum verdict memory_node(void) { return node(S_IFCHR, makedev(1, 8)); }
static enum verdict disk_node(void) {
    dev_t disk = made("disk") ? made_number("disk") : (long)makedev(7, 0);
    return node(S_IFBLK, disk);
}
static enum verdict urgent(void) {
    return refused(setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 1));
}
static enum verdict realtime(void) {
    struct sched_param how = {.sched_priority = 1};
    return refused(sched_setscheduler(0, SCHED_FIFO, &how));
}
static enum verdict ambient(void) {
    unsigned header[2] = {0x20080522, 0}, sets[6];
    if (syscall(SYS_capget, header, sets)) return say(UNKNOWN, "cannot ask");
    sets[2] |= 1 << 1;
    if (syscall(SYS_capset, header, sets)) return say(CONTAINED, "%s", strerrorname_np(errno));
    return refused(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 1, 0, 0));
}
static enum verdict bits(void) { return refused(prctl(PR_SET_SECUREBITS, 1, 0, 0, 0)); }

const struct property privileges[] = {
    {"root-of-host", root}, {"capabilities", held}, {"capabilities-bounded", bounding},
    {"no-new-privileges", gains}, {"filter", filtered}, {"setuid", to_root}, {"setgid", to_group},
    {"setgroups", groups}, {"set-id-program", set_id_program}, {"chown", given_away},
    {"device-made", memory_node}, {"disk-made", disk_node}, {"priority", urgent},
    {"realtime", realtime}, {"ambient-capability", ambient}, {"secure-bits", bits},
    {NULL, NULL}};
