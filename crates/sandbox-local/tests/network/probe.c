/* Tries where a sandbox with a network can go, and prints `name answer`, where the answer is `done`
 * or the name of the error. Built and run by the test of networks. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void say(const char *name, long answer) {
    printf("%s %s\n", name, answer == -1 ? strerrorname_np(errno) : "done");
    fflush(stdout);
}

static struct sockaddr_in place(const char *address, int port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &place.sin_addr);
    return place;
}

static void to(const char *name, const char *address, int port) {
    struct sockaddr_in there = place(address, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say(name, connect(fd, (struct sockaddr *)&there, sizeof there));
    close(fd);
}

static void to6(const char *name, const char *address) {
    struct sockaddr_in6 there = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    inet_pton(AF_INET6, address, &there.sin6_addr);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    say(name, connect(fd, (struct sockaddr *)&there, sizeof there));
    close(fd);
}

static void datagram(const char *name, const char *address, int port) {
    struct sockaddr_in there = place(address, port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    char byte;
    long answer = connect(fd, (struct sockaddr *)&there, sizeof there);
    if (answer == 0) answer = send(fd, "x", 1, 0);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    /* A refusal comes back at once on this host; silence means that somebody has it. */
    if (answer == 1 && poll(&ready, 1, 200) > 0) answer = recv(fd, &byte, 1, 0);
    say(name, answer);
    close(fd);
}

static void own(const char *name, const char *address, int port, int option) {
    struct sockaddr_in here = place(address, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (option) setsockopt(fd, SOL_SOCKET, option, &one, sizeof one);
    long answer = bind(fd, (struct sockaddr *)&here, sizeof here);
    if (answer == 0) answer = listen(fd, 1);
    say(name, answer);
    close(fd);
}

static void route(void) {
    struct {
        struct nlmsghdr header;
        struct rtmsg route;
    } ask = {{sizeof ask, RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0},
             {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_type = RTN_LOCAL}};
    struct { struct nlmsghdr header; struct nlmsgerr error; char rest[256]; } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    send(fd, &ask, sizeof ask, 0);
    recv(fd, &answer, sizeof answer, 0);
    errno = -answer.error.error;
    say("new_route", errno ? -1 : 0);
    close(fd);
}

int main(int count, char **argument) {
    if (count != 2) return 2;
    /* What is listened on. */
    to("everywhere", "198.18.5.6", 443);
    to("far_end", "198.19.255.254", 443);
    to("proxy", "198.18.0.1", 3128);
    to("resolver_stream", "198.18.0.1", 53);
    to("database", "198.18.3.4", 5432);
    datagram("resolver", "198.18.0.1", 53);
    struct sockaddr_un agent = {.sun_family = AF_UNIX};
    strcpy(agent.sun_path, getenv("SSH_AUTH_SOCK"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    say("ssh_agent", connect(fd, (struct sockaddr *)&agent, sizeof agent));
    close(fd);

    /* What is not. */
    to("other_port", "198.18.5.6", 444);
    to("database_elsewhere", "198.18.3.5", 5432);
    datagram("other_resolver", "198.18.0.2", 53);
    datagram("other_datagram", "198.18.0.1", 54);
    to("host_loopback", "127.0.0.1", atoi(argument[1]));
    to("host_loopback_by_name", "127.0.1.1", atoi(argument[1]));
    to("before", "198.17.255.255", 443);
    to("behind", "198.20.0.0", 443);
    to("outside", "192.0.2.1", 443);
    to("private", "10.0.0.1", 443);
    to("metadata", "169.254.169.254", 80);
    to("broadcast", "255.255.255.255", 443);
    to("broadcast_of_the_network", "198.19.255.255", 443);
    datagram("datagram_outside", "192.0.2.1", 53);
    datagram("datagram_multicast", "224.0.0.251", 5353);
    to6("outside6", "2001:db8::1");
    to6("link_local6", "fe80::1");
    to6("mapped_outside", "::ffff:192.0.2.1");
    to6("mapped_inside", "::ffff:198.18.5.6");

    /* What would change that. */
    route();
    struct ifreq device = {.ifr_name = "lo"};
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = place("192.0.2.1", 0);
    memcpy(&device.ifr_addr, &address, sizeof address);
    say("new_address", ioctl(fd, SIOCSIFADDR, &device));
    int one = 1;
    say("transparent", setsockopt(fd, SOL_IP, 19, &one, sizeof one));
    close(fd);
    say("raw", socket(AF_INET, SOCK_RAW, 1));
    say("packet", socket(AF_PACKET, SOCK_RAW, 0));

    /* Taking somebody else's place. */
    own("take_over", "0.0.0.0", 443, 0);
    own("take_over_one", "198.18.5.6", 443, 0);
    own("take_over_shared", "0.0.0.0", 8443, SO_REUSEPORT);
    own("take_over_again", "198.18.7.7", 8443, SO_REUSEADDR);
    own("take_over_database", "198.18.3.4", 5432, SO_REUSEPORT);
    own("own_database", "127.0.0.1", 5432, 0);
    own("own_server", "0.0.0.0", 8080, 0);
    return 0;
}
