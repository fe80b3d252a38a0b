/* Networks, and sockets that lead elsewhere. */
#include "probe.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static enum verdict sock(int family, int type, int protocol) {
    return refused(socket(family, type, protocol));
}
static enum verdict raw(void) { return sock(AF_INET, SOCK_RAW, 1); }
static enum verdict raw6(void) { return sock(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58); }
static enum verdict packet(void) { return sock(17, SOCK_RAW, 0); }
static enum verdict alg(void) { return sock(38, SOCK_SEQPACKET, 0); }
static enum verdict vsock(void) { return sock(40, SOCK_STREAM, 0); }
static enum verdict audit(void) { return sock(AF_NETLINK, SOCK_RAW, 9); }
static enum verdict netfilter(void) { return sock(AF_NETLINK, SOCK_RAW, 12); }
static enum verdict uevents(void) { return sock(AF_NETLINK, SOCK_RAW, 15); }
static enum verdict bluetooth(void) { return sock(31, SOCK_RAW, 0); }

static enum verdict old_packet(void) { return sock(AF_INET, 10, htons(0x300)); }
/* Many kernels have none of them, and say so in these two ways. */
static enum verdict module(int family, int type, int protocol) {
    int made = socket(family, type, protocol);
    int absent = errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT;
    if (made < 0 && absent) return say(ABSENT, "%s", strerrorname_np(errno));
    return refused(made);
}
static enum verdict sctp(void) { return module(AF_INET, SOCK_STREAM, 132); }
static enum verdict sctp6(void) { return module(AF_INET6, SOCK_SEQPACKET, 132); }
static enum verdict tunnel(void) { return module(AF_INET, SOCK_DGRAM, 115); }
static enum verdict several_paths(void) { return module(AF_INET, SOCK_STREAM, 262); }
static enum verdict inner_protocol(void) {
    return refused_at_once(setsockopt(socket(AF_INET, SOCK_STREAM, 0), IPPROTO_TCP, 31, "tls", 3));
}

static enum verdict to(int type, const char *address, int port) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &there.sin_addr);
    return refused(connect(socket(AF_INET, type, 0), (struct sockaddr *)&there, sizeof there));
}
static enum verdict to6(int type, const char *address, int port) {
    struct sockaddr_in6 there = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, address, &there.sin6_addr);
    return refused(connect(socket(AF_INET6, type, 0), (struct sockaddr *)&there, sizeof there));
}
static enum verdict loopback(void) { return to(SOCK_STREAM, "127.0.0.1", made_number("port")); }
static enum verdict loopback6(void) {
    if (!made("port6")) return say(UNKNOWN, "the host has no IPv6");
    return to6(SOCK_STREAM, "::1", made_number("port6"));
}
/* A datagram's way is looked for before anything is sent, and nothing is. */
static enum verdict outside(void) { return to(SOCK_DGRAM, "198.51.100.1", 53); }
static enum verdict outside6(void) { return to6(SOCK_DGRAM, "2001:db8::1", 53); }
static enum verdict metadata(void) { return to(SOCK_DGRAM, "169.254.169.254", 80); }
static enum verdict multicast(void) {
    struct ip_mreq group = {0};
    inet_pton(AF_INET, "224.0.0.251", &group.imr_multiaddr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return refused(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
}
static enum verdict abstract(void) {
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    const char *name = made("abstract");
    if (!name) return say(UNKNOWN, "nothing was made");
    size_t length = strlen(name);
    memcpy(there.sun_path + 1, name, length);
    length += offsetof(struct sockaddr_un, sun_path) + 1;
    return refused(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&there, length));
}
static enum verdict interfaces(void) {
    char found[IFNAMSIZ + 1] = "";
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *at = all; at && at->if_index; at++)
        if (strcmp(at->if_name, "lo")) snprintf(found, sizeof found, "%s", at->if_name);
    return found[0] ? say(ESCAPED, "%s", found) : say(CONTAINED, "only lo");
}
/* Names of sockets of the host, which tell what runs there. */
static enum verdict names(void) {
    const char *name = made("abstract");
    char line[512];
    FILE *list = fopen("/proc/net/unix", "r");
    while (name && list && fgets(line, sizeof line, list))
        if (strstr(line, name)) return say(ESCAPED, "listed");
    return say(CONTAINED, "not listed");
}

const struct property network[] = {
    {"raw", raw}, {"raw6", raw6}, {"packet", packet}, {"alg", alg}, {"vsock", vsock},
    {"netlink-audit", audit}, {"netlink-netfilter", netfilter}, {"netlink-uevents", uevents},
    {"bluetooth", bluetooth}, {"packet-by-old-name", old_packet}, {"sctp", sctp},
    {"sctp6", sctp6}, {"l2tp", tunnel}, {"mptcp", several_paths}, {"tcp-ulp", inner_protocol},
    {"loopback-of-host", loopback}, {"loopback6-of-host", loopback6},
    {"outside", outside}, {"outside6", outside6}, {"metadata", metadata},
    {"multicast", multicast}, {"abstract-socket-of-host", abstract}, {"interfaces", interfaces},
    {"sockets-listed", names}, {NULL, NULL}};
