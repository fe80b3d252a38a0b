/* Files of the host, and of the system that a sandbox runs on. */
#include "probe.h"
#include <dirent.h>
#include <mntent.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <stddef.h>

static enum verdict passwords(void) { return cannot_open("/etc/shadow", O_RDONLY); }

static enum verdict token_at(const char *key) {
    const char *path = made(key);
    if (!path) return say(UNKNOWN, "nothing was made");
    if (holds_token(AT_FDCWD, path)) return say(ESCAPED, "read");
    return say(CONTAINED, "%s", strerrorname_np(errno));
}
static enum verdict open_file(void) { return token_at("open"); }
static enum verdict private_file(void) { return token_at("private"); }

static enum verdict writable_file(void) {
    const char *path = made("writable");
    return path ? cannot_open(path, O_WRONLY) : say(UNKNOWN, "nothing was made");
}

static enum verdict listing(void) {
    const char *path = made("folder");
    if (!path) return say(UNKNOWN, "nothing was made");
    DIR *folder = opendir(path);
    return folder ? say(ESCAPED, "listed") : say(CONTAINED, "%s", strerrorname_np(errno));
}

static enum verdict symlink_out(void) {
    const char *target = made("open"), *folder = scratch();
    char path[300];
    if (!target || !folder) return say(UNKNOWN, "no folder to work in");
    snprintf(path, sizeof path, "%s/link", folder);
    if (symlink(target, path)) return say(UNKNOWN, "no link");
    int found = holds_token(AT_FDCWD, path), error = errno;
    unlink(path);
    rmdir(folder);
    return found ? say(ESCAPED, "read") : say(CONTAINED, "%s", strerrorname_np(error));
}

static enum verdict hardlink_out(void) {
    const char *target = made("linked"), *folder = scratch();
    char path[512];
    if (!target || !folder) return say(UNKNOWN, "no folder to work in");
    snprintf(path, sizeof path, "%s/link", folder);
    enum verdict verdict = refused(link(target, path));
    unlink(path);
    rmdir(folder);
    if (verdict == ESCAPED) return verdict;
    /* A file has names on one mount only: beside it. */
    snprintf(path, sizeof path, "%s-again", target);
    verdict = refused(link(target, path));
    unlink(path);
    return verdict;
}

static int root_of(pid_t pid) {
    char path[512];
    snprintf(path, sizeof path, "/proc/%d/root/%s", pid, made("private"));
    return holds_token(AT_FDCWD, path) ? pid : 0;
}
static enum verdict through_roots(void) {
    int pid = made("private") ? each_process(root_of) : 0;
    return pid ? say(ESCAPED, "by the root of %d", pid) : say(CONTAINED, "by no root");
}

static int folder_of(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cwd/private", pid);
    return holds_token(AT_FDCWD, path) ? pid : 0;
}
static enum verdict through_folders(void) {
    int pid = each_process(folder_of);
    return pid ? say(ESCAPED, "by the folder of %d", pid) : say(CONTAINED, "by no folder");
}

/* Any file of a file system by its number, whatever is mounted where. */
static enum verdict by_handle(void) {
    struct { unsigned length; int type; unsigned char bytes[128]; } handle = {0};
    const char *text = made("handle");
    if (!text) return say(UNKNOWN, "nothing was made");
    handle.type = strtol(text, (char **)&text, 10);
    for (text++; sscanf(text, "%2hhx", handle.bytes + handle.length) == 1; text += 2) handle.length++;
    int mount = open(".", O_RDONLY | O_DIRECTORY);
    int fd = syscall(SYS_open_by_handle_at, mount, &handle, O_RDONLY);
    if (fd < 0) return say(CONTAINED, "%s", strerrorname_np(errno));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return say(holds_token(AT_FDCWD, path) ? ESCAPED : CONTAINED, "opened");
}

/* A file without a name: whether one could be made, and nothing is left. */
static enum verdict can_make_in(const char *const *folders) {
    for (; *folders; folders++) {
        int fd = open(*folders, O_TMPFILE | O_WRONLY, 0600);
        if (fd >= 0) return say(ESCAPED, "a file in %s", *folders);
    }
    return say(CONTAINED, "%s", strerrorname_np(errno));
}
static enum verdict system_write(void) {
    static const char *const folders[] = {"/usr", "/usr/bin", "/usr/lib", "/opt", NULL};
    return can_make_in(folders);
}
static enum verdict root_write(void) {
    static const char *const folders[] = {"/", "/etc", NULL};
    return can_make_in(folders);
}
static enum verdict devices_write(void) {
    static const char *const folders[] = {"/dev", NULL};
    return can_make_in(folders);
}
static enum verdict outputs_write(void) {
    static const char *const folders[] = {"/moat/outputs", NULL};
    struct stat found;
    if (stat("/moat/outputs", &found)) return say(UNKNOWN, "there are no outputs here");
    return can_make_in(folders);
}
static enum verdict accounts_write(void) { return cannot_open("/etc/passwd", O_WRONLY); }
static enum verdict system_mode(void) {
    struct stat found;
    if (stat("/etc/passwd", &found)) return say(UNKNOWN, "there is none");
    return refused(chmod("/etc/passwd", found.st_mode & 07777));
}

static enum verdict core_pattern(void) {
    return cannot_open("/proc/sys/kernel/core_pattern", O_WRONLY);
}
static enum verdict drop_caches(void) { return cannot_open("/proc/sys/vm/drop_caches", O_WRONLY); }

/* A masked file is a device that swallows everything. */
static enum verdict is_masked(const char *path, int flags) {
    struct stat found;
    if (stat(path, &found) == 0 && !S_ISREG(found.st_mode)) return say(CONTAINED, "masked");
    char bytes[8];
    int fd = open(path, flags | O_NONBLOCK);
    if (fd < 0) return say(CONTAINED, "%s", strerrorname_np(errno));
    if (flags == O_RDONLY && read(fd, bytes, sizeof bytes) < 1) return say(CONTAINED, "empty");
    return say(ESCAPED, "%s opened", path);
}
/* Not every kernel has the first of these. */
static enum verdict panic(void) {
    if (is_masked("/proc/sysrq-trigger", O_WRONLY) == ESCAPED) return ESCAPED;
    return is_masked("/proc/sys/kernel/panic", O_WRONLY);
}
static enum verdict kernel_memory(void) {
    if (is_masked("/proc/kcore", O_RDONLY) == ESCAPED) return ESCAPED;
    return is_masked("/proc/kpageflags", O_RDONLY);
}
static enum verdict kernel_symbols(void) { return is_masked("/proc/kallsyms", O_RDONLY); }
static enum verdict kernel_keys(void) { return is_masked("/proc/key-users", O_RDONLY); }
static enum verdict kernel_timers(void) { return is_masked("/proc/timer_list", O_RDONLY); }
static enum verdict interrupts(void) { return is_masked("/proc/interrupts", O_RDONLY); }

static int entries(const char *path) {
    int count = 0;
    DIR *folder = opendir(path);
    if (!folder) return 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.' && strcmp(entry->d_name, "tmp") != 0;
    closedir(folder);
    return count;
}
static enum verdict system_state(void) {
    int count = entries("/var") + entries("/run") + entries("/mnt") + entries("/srv");
    return say(count ? ESCAPED : CONTAINED, "%d entries", count);
}
static enum verdict kernel_objects(void) {
    int count = entries("/sys");
    return say(count ? ESCAPED : CONTAINED, "%d entries", count);
}
static enum verdict cgroup_write(void) {
    static const char *const files[] = {"/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", NULL};
    for (const char *const *at = files; *at; at++)
        if (cannot_open(*at, O_WRONLY) == ESCAPED) return ESCAPED;
    return CONTAINED;
}

static enum verdict connected(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    return refused(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to));
}
static enum verdict socket_file(void) {
    const char *path = made("socket");
    return path ? connected(path) : say(UNKNOWN, "nothing was made");
}
static enum verdict socket_among_programs(void) {
    const char *path = made("among");
    return path ? connected(path) : say(UNKNOWN, "the host has no folder of programs to put one");
}

/* Calls `look` for every mount but those whose last part is another mount's business. */
static enum verdict each_mount(int (*look)(const struct mntent *), const char *what) {
    char found[160] = "";
    FILE *list = setmntent("/proc/self/mounts", "r");
    if (!list) return say(UNKNOWN, "no list of mounts");
    for (struct mntent *mount; (mount = getmntent(list));)
        if (look(mount)) snprintf(found, sizeof found, "%s", mount->mnt_dir);
    endmntent(list);
    return found[0] ? say(ESCAPED, "%s: %s", what, found) : say(CONTAINED, "none");
}
static int allows_set_id(const struct mntent *mount) { return !hasmntopt(mount, "nosuid"); }
static enum verdict set_id_mounts(void) { return each_mount(allows_set_id, "set-user-id counts at"); }

static int is_writable_disk(const struct mntent *mount) {
    static const char *const memory[] = {"tmpfs", "proc", "devpts", "mqueue", "devtmpfs", "sysfs", NULL};
    char here[256] = "", own[512];
    struct statvfs found;
    struct stat kind;
    for (const char *const *at = memory; *at; at++) if (!strcmp(mount->mnt_type, *at)) return 0;
    snprintf(own, sizeof own, ":%s:%s:/moat/outputs:", getcwd(here, sizeof here), getenv("HOME") ?: "");
    snprintf(here, sizeof here, ":%s:", mount->mnt_dir);
    if (strstr(own, here)) return 0;
    return stat(mount->mnt_dir, &kind) == 0 && S_ISDIR(kind.st_mode) &&
           statvfs(mount->mnt_dir, &found) == 0 && !(found.f_flag & ST_RDONLY);
}
static enum verdict writable_disks(void) { return each_mount(is_writable_disk, "writable"); }

static int is_node_mount(const struct mntent *mount) {
    struct stat kind;
    return !hasmntopt(mount, "nodev") && stat(mount->mnt_dir, &kind) == 0 && S_ISDIR(kind.st_mode) &&
           strcmp(mount->mnt_type, "devpts") != 0;
}
static enum verdict device_mounts(void) { return each_mount(is_node_mount, "devices work at"); }

static enum verdict devices_seen(void) {
    static const char known[] = " . .. core fd full mqueue null ptmx pts random shm stderr stdin "
                                "stdout tty urandom zero console ";
    char found[80] = "", name[80];
    DIR *folder = opendir("/dev");
    if (!folder) return say(CONTAINED, "no /dev");
    for (struct dirent *entry; (entry = readdir(folder));) {
        snprintf(name, sizeof name, " %.70s ", entry->d_name);
        if (!strstr(known, name)) snprintf(found, sizeof found, "%s", name);
    }
    closedir(folder);
    return say(found[0] ? ESCAPED : CONTAINED, "%s", found[0] ? found : "only the usual");
}

static int is_disk(const char *path) {
    struct stat found;
    int fd = stat(path, &found) == 0 && S_ISBLK(found.st_mode) ? open(path, O_RDONLY | O_NONBLOCK) : -1;
    if (fd >= 0) close(fd);
    return fd >= 0;
}
static enum verdict disks(void) {
    char path[300];
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (is_disk(path)) return say(ESCAPED, "%s opened", path);
    }
    return say(CONTAINED, "none");
}
static enum verdict machine_memory(void) {
    static const char *const paths[] = {"/dev/mem", "/dev/kmsg", "/dev/port", "/dev/kvm", "/dev/fuse", NULL};
    for (const char *const *at = paths; *at; at++)
        if (cannot_open(*at, O_RDWR) == ESCAPED) return ESCAPED;
    return CONTAINED;
}

const struct property files[] = {
    {"passwords", passwords}, {"file-of-host", open_file}, {"private-file-of-host", private_file},
    {"file-of-host-written", writable_file}, {"folder-of-host-listed", listing},
    {"symlink-to-host", symlink_out}, {"hardlink-to-host", hardlink_out},
    {"root-of-process", through_roots}, {"folder-of-process", through_folders},
    {"file-by-handle", by_handle}, {"system-written", system_write}, {"root-written", root_write},
    {"dev-written", devices_write}, {"outputs-written", outputs_write},
    {"accounts-written", accounts_write}, {"system-mode-changed", system_mode},
    {"core-pattern", core_pattern}, {"kernel-switches", drop_caches}, {"panic", panic},
    {"kernel-memory", kernel_memory}, {"kernel-symbols", kernel_symbols}, {"kernel-keys", kernel_keys},
    {"kernel-timers", kernel_timers}, {"interrupts", interrupts}, {"state-of-system", system_state},
    {"sys-seen", kernel_objects}, {"cgroup-written", cgroup_write}, {"socket-of-host", socket_file},
    {"socket-among-programs", socket_among_programs},
    {"set-id-mounts", set_id_mounts}, {"writable-disks", writable_disks},
    {"device-mounts", device_mounts}, {"devices-seen", devices_seen}, {"disks", disks},
    {"machine-memory", machine_memory}, {NULL, NULL}};
