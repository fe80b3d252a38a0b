/* Tries, one after the other, what a sandbox must refuse, and prints `name answer`, where the answer
 * is `done` or the name of the error. Built and run by the containment test. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long answer) {
    printf("%s %s\n", name, answer == -1 ? strerrorname_np(errno) : "done");
    fflush(stdout);
}

static void sock(const char *name, int family, int type, int protocol) {
    int fd = socket(family, type, protocol);
    say(name, fd);
    if (fd >= 0) close(fd);
}

static void in(const char *name, const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    long answer = connect(fd, (struct sockaddr *)&to, sizeof to);
    say(name, answer);
    close(fd);
}

static void file(const char *name, const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK);
    say(name, fd);
    if (fd >= 0) close(fd);
}

static int nothing(void *unused) { (void)unused; return 0; }

static void fork_into(const char *name, int flags) {
    static char stack[65536];
    int pid = clone(nothing, stack + sizeof stack, flags | SIGCHLD, NULL);
    say(name, pid);
    if (pid > 0) waitpid(pid, NULL, 0);
}

static void descriptors(void) {
    printf("descriptors");
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) != -1) printf(" %d", fd);
    printf("\n");
}

int main(int count, char **argument) {
    if (count != 3) return 2;
    descriptors();

    /* Namespaces and mounts. */
    say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    say("bind", mount("/usr", "/tmp", NULL, MS_BIND, NULL));
    say("remount", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
    say("umount", umount2("/proc", MNT_DETACH));
    say("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    say("chroot", chroot("/tmp"));
    say("unshare_user", unshare(CLONE_NEWUSER));
    say("unshare_net", unshare(CLONE_NEWNET));
    say("setns", setns(0, 0));
    fork_into("clone_user", CLONE_NEWUSER);
    fork_into("clone_mount", CLONE_NEWNS);
    fork_into("clone_plain", 0);
    say("clone3", syscall(SYS_clone3, NULL, 0));
    say("open_tree", syscall(428, AT_FDCWD, "/", 0));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, NULL, 0));

    /* The kernel. */
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    say("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    say("bpf", syscall(SYS_bpf, 0, NULL, 0));
    say("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    say("io_uring_setup", syscall(425, 1, NULL));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("init_module", syscall(SYS_init_module, NULL, 0, ""));
    say("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    say("reboot", reboot(RB_DISABLE_CAD));
    say("swapon", swapon("/none", 0));
    say("quotactl", syscall(SYS_quotactl, 0, NULL, 0, NULL));
    say("syslog", syscall(SYS_syslog, 3, NULL, 0));
    say("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
    say("sethostname", sethostname("x", 1));
    say("acct", syscall(SYS_acct, NULL));
#ifdef __x86_64__
    say("iopl", syscall(SYS_iopl, 0));
    say("modify_ldt", syscall(SYS_modify_ldt, 0, NULL, 0));
#endif
    say("personality_linux32", personality(0x0008));
    personality(0);
    say("personality_foreign", personality(PER_SVR4));
    say("unknown_call", syscall(9999));

    /* Sockets. */
    sock("unix", AF_UNIX, SOCK_STREAM, 0);
    sock("inet", AF_INET, SOCK_STREAM, 0);
    sock("inet6", AF_INET6, SOCK_DGRAM, 0);
    sock("netlink_route", AF_NETLINK, SOCK_RAW, 0);
    sock("netlink_audit", AF_NETLINK, SOCK_RAW, 9);
    sock("raw", AF_INET, SOCK_RAW, 1);
    sock("raw6", AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58);
    sock("packet", 17, SOCK_RAW, 0);
    sock("alg", 38, SOCK_SEQPACKET, 0);
    sock("vsock", 40, SOCK_STREAM, 0);
    sock("bluetooth", 31, SOCK_RAW, 0);
    in("host_loopback", "127.0.0.1", atoi(argument[1]));
    in("outside", "192.0.2.1", 443);
    in("metadata", "169.254.169.254", 80);
    struct sockaddr_un hidden = {.sun_family = AF_UNIX};
    size_t length = strlen(argument[2]);
    memcpy(hidden.sun_path + 1, argument[2], length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    say("abstract",
        connect(fd, (struct sockaddr *)&hidden, offsetof(struct sockaddr_un, sun_path) + 1 + length));

    /* The guest. */
    char byte;
    struct iovec ours = {&byte, 1}, theirs = {(void *)0x400000, 1};
    say("ptrace_guest", ptrace(PTRACE_SEIZE, 1, 0, 0));
    say("read_guest", process_vm_readv(1, &ours, 1, &theirs, 1, 0));
    file("guest_memory", "/proc/1/mem", O_RDONLY);
    file("guest_environment", "/proc/1/environ", O_RDONLY);
    file("guest_root", "/proc/1/root/etc", O_RDONLY);
    file("guest_descriptor", "/proc/1/fd/5", O_RDONLY);
    kill(1, SIGKILL);
    kill(1, SIGSTOP);
    kill(1, SIGSEGV);

    /* Debuggers work on one's own. */
    int child = fork();
    if (child == 0) { pause(); _exit(0); }
    say("ptrace_own", ptrace(PTRACE_SEIZE, child, 0, 0));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    /* Privileges. */
    say("setuid", setuid(0));
    say("setgid", setgid(0));
    say("seteuid_guest", seteuid(1));
    say("chown", chown("/workspace", 0, 0));
    say("mknod_memory", mknod("/workspace/mem", S_IFCHR | 0666, makedev(1, 1)));
    say("mknod_disk", mknod("/workspace/disk", S_IFBLK | 0666, makedev(8, 0)));
    say("nice", setpriority(PRIO_PROCESS, 0, -5));

    /* Terminals. */
    file("controlling_terminal", "/dev/tty", O_RDWR);
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    say("openpt", terminal);
    say("tiocsti", ioctl(terminal, TIOCSTI, "x"));
    say("tioclinux", ioctl(terminal, TIOCLINUX, "x"));
    return 0;
}
