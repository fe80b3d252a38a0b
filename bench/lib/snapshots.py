"""Figures 5, 6 and 7: checkpoints, first snapshots, restores and forks of a large workspace."""
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from measure import say
from report import row
from sandboxes import program

FILES, SIZE, CHANGES = 10_000, 100_000, 10
CHECKPOINT = "checkpoint of 1 GB in 10,000 files, 10 of them changed"
FORK = "fork of 1 GB in 10,000 files, until its first command has run"
FIRST, RESTORE = "first snapshot of 1 GB in 10,000 files", "restore of 1 GB in 10,000 files"


def place(number):
    return pathlib.Path(f"d{number % 100:03}") / str(number)


def make_tree(folder, count):
    """The same kind of contents as Moat is given: half of each file compresses."""
    for number in range(count):
        path = folder / place(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"m" * (SIZE // 2) + os.urandom(SIZE // 2))
    os.sync()


def change(folder, count, text):
    for number in range(CHANGES):
        (folder / place(number * count // CHANGES)).write_text(text)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def same(one, other):
    done = subprocess.run(["diff", "-r", "--no-dereference", str(one), str(other)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"what came back differs: {done.stdout[:200]}")


def shell(command, **more):
    subprocess.run(["sh", "-c", f"set -e; {command}"], check=True, capture_output=True, **more)


def restic(folder, tree, count, quick):
    """Durable by its own fsyncs; the repository is checked by restoring."""
    if not shutil.which("restic"):
        say("left out: restic is not installed (Debian package restic)")
        return []
    repository, back = folder / "restic", folder / "restic-back"
    environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(folder / "restic-cache")}
    call = lambda *words: subprocess.run(["restic", "-q", "-r", str(repository), *words], env=environment, check=True,
                                         capture_output=True, cwd=tree)
    call("init")
    first = timed(lambda: (call("backup", "."), os.sync()))
    before = used(repository)
    times = []
    for number in range(3 if quick else 5):
        change(tree, count, f"restic {number}")
        times.append(timed(lambda: (call("backup", "."), os.sync())))
    added = (used(repository) - before) / len(times)
    restore = timed(lambda: (call("restore", "latest", "--target", str(back)), os.sync()))
    same(tree, back)
    return [
        row("5", CHECKPOINT, "restic", sorted(times)[len(times) // 2] * 1000, "ms", ratio_aim=3),
        row("5", "bytes that it stores", "restic", added / 1024, "KiB"),
        row("6", FIRST, "restic", speed(count, first), "MB/s"),
        row("6", RESTORE, "restic", speed(count, restore), "MB/s"),
    ]


def used(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def speed(count, seconds):
    return count * SIZE / 1e6 / seconds


def whole_tar(bench, folder, tree, count):
    """The peer's SDK itself: at each stop one tar of everything, in place of the one before."""
    peer = next((peer for peer in bench.peers if peer.slug == "openai-agents"), None)
    if not peer:
        return []
    back = folder / "agents-back"
    words = [peer.binary, pathlib.Path(__file__).with_name("agents_snapshot.py"), tree, count, CHANGES,
             1 if bench.quick else 3, back]
    text = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, cwd=folder).stdout
    took = json.loads(text.splitlines()[-1])
    same(tree, back)
    return [
        row("5", CHECKPOINT, peer.name, took["changed_s"] * 1000, "ms", ratio_aim=50),
        row("5", "bytes that it stores", peer.name, took["bytes"] / 1024, "KiB"),
        row("6", FIRST, peer.name, speed(count, took["first_s"]), "MB/s"),
        row("6", RESTORE, peer.name, speed(count, took["restore_s"]), "MB/s"),
        row("6", "peak memory of the harness: snapshots", peer.name, took["peak_kib"] / 1024, "MiB"),
    ]


def copies(folder, tree):
    """A copy, and one whose files are the same ones, so that a change of one is a change of both."""
    found = []
    for name, options in (("cp -a", "-a"), ("cp -al", "-al")):
        times = []
        for number in range(3):
            copy = folder / f"copy{number}"
            times.append(timed(lambda: shell(f"cp {options} {tree} {copy}")))
            shutil.rmtree(copy)
        found.append(row("7", FORK, name, sorted(times)[1] * 1000, "ms"))
    return found


def tar_zstd(folder, tree, count):
    path, back = folder / "tree.tar.zst", folder / "zstd-back"
    back.mkdir()
    first = timed(lambda: shell(f"tar -cf - -C {tree} . | zstd -1 -T2 -q -o {path}; sync {path}"))
    restore = timed(lambda: (shell(f"zstd -dcq {path} | tar -xf - -C {back}"), os.sync()))
    same(tree, back)
    return [
        row("6", FIRST, "tar + zstd -1", speed(count, first), "MB/s"),
        row("6", RESTORE, "tar + zstd -1", speed(count, restore), "MB/s"),
    ]


@functools.cache
def rows(bench):
    """All rows of both figures, measured once."""
    count = FILES // 10 if bench.quick else FILES
    found = []
    with tempfile.TemporaryDirectory(prefix="moat-bench-") as folder:
        folder = pathlib.Path(folder)
        own = folder / "moat"
        own.mkdir()
        text = subprocess.run([str(program("checkpoint")), str(count), str(SIZE), str(CHANGES), str(own), "10"],
                              capture_output=True, text=True, check=True).stdout
        took = json.loads(text.splitlines()[-1])
        first, restore = speed(count, took["first_s"]), speed(count, took["restore_s"])
        found += [
            row("5", CHECKPOINT, "moat", took["changed_ms"], "ms", aim="≤ 60 ms", met=took["changed_ms"] <= 60),
            row("5", "bytes that it stores", "moat", took["added"] / 1024, "KiB",
                aim="≤ 1 %", met=took["added"] * 100 <= took["bytes"]),
            row("6", FIRST, "moat", first, "MB/s", aim="≥ 300 MB/s", met=first >= 300),
            row("6", RESTORE, "moat", restore, "MB/s", aim="≥ 300 MB/s", met=restore >= 300),
            *(row("6", f"peak memory of the harness: {what}", "moat", took[f"{key}_peak_kib"] / 1024, "MiB",
                  aim="≤ 128 MiB", met=took[f"{key}_peak_kib"] <= 128 * 1024)
              for what, key in (("snapshots", "first"), ("restore", "restore"), ("forks", "fork"))),
            row("7", FORK, "moat, a checkpoint", took["fork_ms"], "ms", aim="≤ 20 ms", met=took["fork_ms"] <= 20),
            row("7", FORK, "moat, a live sandbox: checkpoint and fork", took["fork_live_ms"], "ms"),
            row("7", "once: the workspace that forks lie over", "moat", took["base_s"] * 1000, "ms"),
        ]
        shutil.rmtree(own)
        if bench.peers:
            tree = folder / "tree"
            tree.mkdir()
            make_tree(tree, count)
            for peer in (lambda: whole_tar(bench, folder, tree, count), lambda: tar_zstd(folder, tree, count),
                         lambda: restic(folder, tree, count, bench.quick), lambda: copies(folder, tree)):
                found += peer()
    return found


def checkpoint(bench):
    return [found for found in rows(bench) if found["figure"] == "5"]


def first_and_restore(bench):
    return [found for found in rows(bench) if found["figure"] == "6"]


def fork(bench):
    return [found for found in rows(bench) if found["figure"] == "7"]
