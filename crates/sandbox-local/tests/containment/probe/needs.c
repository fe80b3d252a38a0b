/* What programs need: a fence that stands in the way of work is as wrong as one that lacks. */
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>

static void want(const char *name, int works) {
    printf("%s %s %s\n", name, works ? "works" : "broken", works ? "" : strerrorname_np(errno));
}

static int child_of(int (*body)(void)) {
    int status = 1;
    pid_t child = fork();
    if (child == 0) _exit(body());
    return waitpid(child, &status, 0) == child && status == 0;
}
static int nothing(void) { return 0; }

static int debugs(void) {
    pid_t child = fork();
    if (child == 0) { pause(); _exit(0); }
    int works = ptrace(PTRACE_SEIZE, child, 0, 0) == 0;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return works;
}

/* Programs that unpack themselves run from memory. */
static int runs_from_memory(void) {
    static char program[16 << 20];
    int from = open("/proc/self/exe", O_RDONLY), to = memfd_create("program", 0);
    ssize_t length = read(from, program, sizeof program);
    if (length <= 0 || write(to, program, length) != length) return 1;
    char *none[] = {"probe", "who", NULL};
    dup2(open("/dev/null", O_WRONLY), 1);
    fexecve(to, none, none + 2);
    return 1;
}

static int talks_to_itself(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof here;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    return bind(server, (void *)&here, length) == 0 && listen(server, 1) == 0 &&
           getsockname(server, (void *)&here, &length) == 0 && connect(client, (void *)&here, length) == 0;
}

int needs(void) {
    want("fork", child_of(nothing));
    want("debugger", debugs());
    want("program-in-memory", child_of(runs_from_memory));
    want("32-bit-reports", personality(0x0008) != -1 && personality(0) != -1);
    want("unix", socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    want("inet", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    want("inet6", socket(AF_INET6, SOCK_DGRAM, 0) >= 0);
    want("routes", socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
    want("loopback", talks_to_itself());
    want("terminal", posix_openpt(O_RDWR | O_NOCTTY) >= 0);
    want("shared-memory", shmget(IPC_PRIVATE, 4096, 0600) >= 0);
    errno = 0;
    want("clone3-is-not-there", syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS);
    want("unknown-call-is-not-there", syscall(9999) == -1 && errno == ENOSYS);
    return 0;
}
