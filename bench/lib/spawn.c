/* Runs one program and says what it cost: spawn OUT.json PROGRAM ARGUMENTS…
 *
 * Measured from here and not from the Python around it, because a child's peak memory starts at
 * that of the process which forked it, and because Python's own fork takes longer than some of
 * what is measured. Descendants whose parents died come back to this process (subreaper), so that
 * CPU time spent by helpers that detach is counted too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static long long micros(struct timeval value)
{
    return value.tv_sec * 1000000LL + value.tv_usec;
}

/* Waits for detached descendants, at most `limit_ns`; says whether some are left. */
static int reap_orphans(long long limit_ns)
{
    long long until = now_ns() + limit_ns;
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            return 0;
        if (pid == 0) {
            if (now_ns() > until)
                return 1;
            usleep(2000);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: spawn OUT.json PROGRAM ARGUMENTS...\n");
        return 2;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    long long start = now_ns();
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status;
    struct rusage own;
    while (wait4(child, &status, 0, &own) < 0 && errno == EINTR)
        ;
    long long end = now_ns();
    int left = reap_orphans(1000000000LL);
    struct rusage all;
    getrusage(RUSAGE_CHILDREN, &all);
    FILE *out = fopen(argv[1], "w");
    if (out == NULL) {
        perror(argv[1]);
        return 2;
    }
    fprintf(out,
        "{\"pid\": %d, \"start_ns\": %lld, \"end_ns\": %lld, \"exit\": %d, \"signal\": %d,"
        " \"user_us\": %lld, \"system_us\": %lld, \"peak_kib\": %ld, \"left_behind\": %s}\n",
        child, start, end, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        WIFSIGNALED(status) ? WTERMSIG(status) : 0, micros(all.ru_utime), micros(all.ru_stime),
        own.ru_maxrss, left ? "true" : "false");
    fclose(out);
    return 0;
}
