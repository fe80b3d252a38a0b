"""Figure 4: from wanting a sandbox to the first output of a command in it."""
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time

import containers
import peers
from isolation import ORDINARY
from measure import ROOT, compiled, say
from report import row

WHAT = "create sandbox → first output"
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
AIMS = {"p50": 5, "p99": 12}
ALIVE = 200


def program(name):
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "moat-sandbox-local", "--example", name],
                   cwd=ROOT, check=True)
    return peers.target_folder() / "release/examples" / name


def rows(who, times, aims=None, ratio_aim=None):
    """One row for each percentile; `times` are milliseconds, or percentiles by name."""
    if not isinstance(times, dict):
        times = sorted(times)
        times = {name: times[round((len(times) - 1) * share)] for name, share in SHARES.items()}
    found = []
    for name, value in times.items():
        aim = (aims or {}).get(name)
        found.append(row("4", f"{WHAT}, {name}", who, value, "ms", aim=aim and f"≤ {aim} ms",
                         met=None if aim is None else value <= aim,
                         ratio_aim=ratio_aim if name == "p50" else None))
    return found


def lent(account):
    """Whether the host lends an account ids, and can map them."""
    def has(table):
        with contextlib.suppress(OSError):
            return any(line.split(":")[0] in (account.pw_name, str(account.pw_uid)) for line in open(table))
    return all(map(has, ("/etc/subuid", "/etc/subgid"))) and shutil.which("newuidmap") and shutil.which("newgidmap")


def with_subuids():
    """An account with ranges of ids: the one that scripts/setup makes, or the caller's own."""
    with contextlib.suppress(KeyError):
        account = pwd.getpwnam("moat-subuid") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        return account if lent(account) else None


def moat(latency, folder, count, certificate=None, user=None, group=None):
    """What the example measures: provider, guest and all, in one process."""
    home = folder / f"moat-{user or 'caller'}-{'net' if certificate else 'plain'}"
    home.mkdir()
    who = {}
    if user:
        group = user if group is None else group
        os.chown(home, user, group)
        who = {"user": user, "group": group, "extra_groups": []}
    command = [str(latency), str(count), str(home / "state"), *([str(certificate)] if certificate else [])]
    text = subprocess.run(command, capture_output=True, text=True, check=True, **who).stdout
    line = next(line for line in text.splitlines() if line.startswith("create →"))
    return {name: float(value) for name, value in re.findall(r"(p\d+) ([\d.]+) ms", line)}


def alive(folder):
    """Many at once: proportional shares of all guests and the harness."""
    text = subprocess.run([str(program("alive")), str(ALIVE), str(folder / "alive")], capture_output=True, text=True,
                          check=True).stdout
    mib = int(re.search(r"(\d+) KiB", text).group(1)) / 1024
    return row("4", f"{ALIVE} sandboxes alive, memory of guests and harness", "moat", mib, "MiB", aim="≤ 2048 MiB",
               met=mib <= 2048)


def of_command(command, count, user=None):
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    times = []
    for _ in range(count):
        start = time.perf_counter()
        done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **who)
        said = done.stdout.readline()
        times.append((time.perf_counter() - start) * 1000)
        done.stdout.close()
        if done.wait() or said != b"hi\n":
            raise RuntimeError(f"{command[0]} did not say what it should")
    return times


def authority(folder):
    """A certificate for sandboxes with a network."""
    path = folder / "authority.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", str(folder / "key.pem"), "-out", str(path), "-days", "2", "-subj", "/CN=bench"],
                   check=True, capture_output=True)
    path.chmod(0o644)
    return path


def create(bench):
    """All rows. Peers that are not there are left out by name."""
    root = os.geteuid() == 0
    count = 50 if bench.quick else 500
    found = []
    with tempfile.TemporaryDirectory(prefix="moat-bench-") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        latency = folder / "latency"
        shutil.copy(program("latency"), latency)
        if root:
            found += rows("moat", moat(latency, folder, count), AIMS)
            found.append(alive(folder))
            found += rows("floor: bare C program", of_command([str(compiled("floor.c")), str(folder / "floor")], count))
        account = with_subuids()
        if root or not account:
            found += rows("moat, user" if root else "moat", moat(latency, folder, count, user=ORDINARY if root else None), AIMS)
        if account:
            who = {"user": account.pw_uid, "group": account.pw_gid} if root else {}
            found += rows("moat, user with subuids", moat(latency, folder, count, **who), AIMS)
        else:
            say("left out: moat as a user with subuids: scripts/setup makes one as root")
        if shutil.which("openssl"):
            found += rows("moat, network", moat(latency, folder, count, certificate=authority(folder)), AIMS)
        else:
            say("left out: moat with a network: no openssl")
        if bench.peers:
            found += others(folder, count, root)
    return found


def others(folder, count, root):
    found = []
    work = folder / "work"
    work.mkdir()
    (work / "probe").write_text("#!/bin/sh\necho hi\n")
    (work / "probe").chmod(0o755)
    if shutil.which("bwrap"):
        found += rows("bubblewrap", of_command(containers.bubblewrap(folder, work, []), count, ORDINARY if root else None))
    else:
        say("left out: bubblewrap is not installed")
    if not root or not all(shutil.which(tool) for tool in ("dockerd", "docker", "busybox")):
        say("left out: docker and gvisor need root and their packages")
        return found
    engine = containers.Docker()
    few = max(count // 10, 5)
    found += rows("docker run --rm", of_command(engine.run("--network", "none")(folder, work, []), few), ratio_aim=50)
    if shutil.which("runsc"):
        flags = ("--runtime", "runsc", "--network", "none")
        found += rows("gvisor", of_command(engine.run(*flags)(folder, work, []), few))
    return found
