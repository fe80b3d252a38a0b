/* What the files of the probe share. The probe tries, one after the other, what a sandbox must
 * refuse, and prints `name contained|escaped|unknown detail`. Whatever it tries only reads, or
 * changes what `probe host` made for it: it is run with fences off as well. */
#ifndef PROBE_H
#define PROBE_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* ABSENT: nothing held the request back, and the kernel that got it has no such thing. */
enum verdict { CONTAINED, ESCAPED, UNKNOWN, ABSENT };

struct property {
    const char *name;
    enum verdict (*attempt)(void);
};

/* Tables by group; each ends with an empty row. */
extern const struct property files[], environment[], processes[], supervisor[], kernel[],
    privileges[], resources[], network[];

/* What programs need and have to get. Says on which line something is missing. */
int needs(void);

/* Makes what a sandbox must not reach, says where it is, and waits for the end of its input. */
int host(const char *folder, const char *token);

/* Runs a program with a controlling terminal. */
int terminal(char **command);

/* The process that runs commands in the sandbox: who started the probe. */
extern pid_t keeper;

/* What the host made, by `key=value` arguments; absent if it was not named. */
const char *made(const char *key);
long made_number(const char *key);

/* An explanation for the line of this property. */
enum verdict say(enum verdict verdict, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Contained if the call failed; the name of the error is the explanation. */
enum verdict refused(long answer);

/* Contained if the kernel refused to begin; any other error means that it looked at arguments
 * (which are wrong on purpose, so that nothing happens). */
enum verdict refused_at_once(long answer);

/* Whether the file can be opened and its beginning holds the token. */
int holds_token(int folder, const char *path);

/* Contained if the path cannot be opened so. */
enum verdict cannot_open(const char *path, int flags);

/* Calls `look` for each process in /proc but this one, until it answers other than 0. */
int each_process(int (*look)(pid_t pid));

/* A number of a line of /proc/PID/status, in base 16. */
unsigned long long status_of(pid_t pid, const char *field);

/* A folder of its own to work in. */
const char *scratch(void);

#endif
