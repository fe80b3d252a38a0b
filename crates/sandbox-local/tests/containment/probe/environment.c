/* What a command inherits. */
#include "probe.h"
#include <sys/utsname.h>

extern char **environ;

static enum verdict variables(void) {
    for (char **at = environ; *at; at++)
        if (made("token") && strstr(*at, made("token"))) return say(ESCAPED, "%.40s", *at);
    return say(CONTAINED, "not there");
}

static int has_token(pid_t pid, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    return holds_token(AT_FDCWD, path) ? pid : 0;
}
static int variables_of(pid_t pid) { return has_token(pid, "environ"); }
static enum verdict variables_of_others(void) {
    int pid = each_process(variables_of);
    return pid ? say(ESCAPED, "of %d", pid) : say(CONTAINED, "of nobody");
}

/* The arguments of the probe name the token as well, and those of what runs it may. */
static int arguments_of(pid_t pid) {
    return pid == made_number("pid") ? has_token(pid, "cmdline") : 0;
}
static enum verdict arguments_of_host(void) {
    int pid = each_process(arguments_of);
    return pid ? say(ESCAPED, "of %d", pid) : say(CONTAINED, "of nobody");
}

static enum verdict name_of_host(void) {
    struct utsname found;
    uname(&found);
    if (!made("hostname")) return say(UNKNOWN, "it was not told");
    return say(strcmp(found.nodename, made("hostname")) ? CONTAINED : ESCAPED, "%s", found.nodename);
}

static enum verdict descriptors(void) {
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1) return say(ESCAPED, "%d is open", fd);
    return say(CONTAINED, "0 to 2");
}

static enum verdict through_descriptors(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (made("open") && holds_token(fd, made("open") + 1)) return say(ESCAPED, "by %d", fd);
    return say(CONTAINED, "%s", strerrorname_np(errno));
}

static enum verdict tty(void) { return cannot_open("/dev/tty", O_RDWR); }

const struct property environment[] = {
    {"variables", variables}, {"variables-of-processes", variables_of_others},
    {"arguments-of-host", arguments_of_host}, {"name-of-host", name_of_host},
    {"descriptors", descriptors}, {"folder-by-descriptor", through_descriptors},
    {"controlling-terminal", tty}, {NULL, NULL}};
