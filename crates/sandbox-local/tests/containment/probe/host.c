/* What a sandbox must not reach, made on the host by whoever makes sandboxes. */
#include "probe.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

static char secret[64] __attribute__((aligned(64)));

static void file(const char *folder, const char *name, mode_t mode) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || write(fd, secret, strlen(secret)) < 0 || fchmod(fd, mode)) perror(path);
    close(fd);
    printf("%s=%s\n", name, path);
}

/* Where everybody may give a file another name. */
static void linkable(const char *folder) {
    char path[512];
    snprintf(path, sizeof path, "%s/linkable", folder);
    if (mkdir(path, 0777) || chmod(path, 0777)) perror(path);
    file(path, "linked", 0666);
}

static void listener(const char *key, int family) {
    struct sockaddr_in6 here6 = {.sin6_family = AF_INET6};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    here6.sin6_addr.s6_addr[15] = 1;
    void *address = family == AF_INET ? (void *)&here : (void *)&here6;
    socklen_t length = family == AF_INET ? sizeof here : sizeof here6;
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, address, length) || listen(fd, 64)) return;
    getsockname(fd, address, &length);
    printf("%s=%d\n", key, ntohs(family == AF_INET ? here.sin_port : here6.sin6_port));
}

static void local_sockets(const char *folder) {
    struct sockaddr_un path = {.sun_family = AF_UNIX}, name = {.sun_family = AF_UNIX};
    snprintf(path.sun_path, sizeof path.sun_path, "%s/socket", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&path, sizeof path) == 0 && listen(fd, 64) == 0 &&
        chmod(path.sun_path, 0666) == 0)
        printf("socket=%s\n", path.sun_path);
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "moat-probe-%d", getpid());
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + length) == 0 &&
        listen(fd, 64) == 0)
        printf("abstract=%s\n", name.sun_path + 1);
}

/* A service that listens among programs, where whoever makes sandboxes may put one. */
static char among[64];
static void socket_among_programs(void) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    snprintf(among, sizeof among, "/usr/local/lib/moat-among-%d", getpid());
    snprintf(path.sun_path, sizeof path.sun_path, "%s", among);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&path, sizeof path)) return;
    if (listen(fd, 64) == 0 && chmod(among, 0666) == 0) printf("among=%s\n", among);
}

static void handle(const char *folder) {
    struct { unsigned length; int type; unsigned char bytes[128]; } found = {.length = 128};
    char path[512];
    int mount;
    snprintf(path, sizeof path, "%s/private", folder);
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, path, &found, &mount, 0)) return;
    printf("handle=%d:", found.type);
    for (unsigned i = 0; i < found.length; i++) printf("%02x", found.bytes[i]);
    printf("\n");
}

/* One that whoever makes sandboxes can read; his own group may forbid him some. */
static long first_disk(void) {
    struct stat found;
    char path[300];
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (stat(path, &found) || !S_ISBLK(found.st_mode)) continue;
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        if (fd >= 0) return close(fd), (long)found.st_rdev;
    }
    return -1;
}

int host(const char *folder, const char *token) {
    char name[256] = "", text[96], byte;
    int key = 0x6d6f6174 ^ getpid();
    signal(SIGPIPE, SIG_IGN);
    snprintf(secret, sizeof secret, "%s", token);
    if (chdir(folder)) return 1;
    printf("token=%s\nfolder=%s\npid=%d\naddress=%#lx\n", secret, folder, getpid(), (unsigned long)secret);
    file(folder, "open", 0644);
    file(folder, "private", 0600);
    file(folder, "writable", 0666);
    linkable(folder);
    handle(folder);
    listener("port", AF_INET);
    listener("port6", AF_INET6);
    local_sockets(folder);
    socket_among_programs();
    gethostname(name, sizeof name - 1);
    printf("hostname=%s\n", name);
    int memory = shmget(key, 4096, IPC_CREAT | 0666), set = semget(key, 1, IPC_CREAT | 0666);
    if (memory >= 0 && set >= 0) printf("ipckey=%d\n", key);
    snprintf(text, sizeof text, "/moat-probe-%d", getpid());
    umask(0);
    if (mq_open(text, O_CREAT | O_RDONLY, 0666, NULL) >= 0) printf("queue=%s\n", text);
    char shared[128];
    snprintf(shared, sizeof shared, "/dev/shm/moat-probe-%d", getpid());
    if (open(shared, O_CREAT | O_WRONLY, 0666) >= 0) printf("shared=%s\n", shared);
    long added = syscall(SYS_add_key, "user", text, secret, strlen(secret), -4);
    if (added >= 0) printf("key=%s\n", text);
    long disk = first_disk();
    if (disk >= 0) printf("disk=%ld\n", disk);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &byte, 1) > 0 || (errno == EINTR && !feof(stdin))) {}
    shmctl(memory, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
    mq_unlink(text);
    unlink(shared);
    unlink(among);
    if (added >= 0) syscall(SYS_keyctl, 9, added, -4);
    return 0;
}

int terminal(char **command) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    pid_t child = unlockpt(master) ? -1 : fork();
    if (child == 0) {
        setsid();
        int slave = ioctl(master, TIOCGPTPEER, O_RDWR);
        ioctl(slave, TIOCSCTTY, 0);
        close(slave);
        close(master);
        execv(command[0], command);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
