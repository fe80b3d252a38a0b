"""The peer `openai-agents` on a tree of files: what its UnixLocal session stores when it stops, and its return.

agents_snapshot.py TREE COUNT CHANGES ROUNDS BACK     prints one JSON line, times in seconds, sizes in bytes
"""
import asyncio
import json
import os
import pathlib
import resource
import shutil
import sys
import time

from agents.sandbox.manifest import Manifest
from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient
from agents.sandbox.snapshot import LocalSnapshotSpec

tree, count, changes, rounds, back = sys.argv[1:6]
tree, back = pathlib.Path(tree), pathlib.Path(back)
count, changes, rounds = int(count), int(changes), int(rounds)


async def stored(session, path):
    """Stopping writes the snapshot, but not to the disk; only what is on the disk counts."""
    start = time.perf_counter()
    await session.stop()
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - start


async def main():
    client = UnixLocalSandboxClient()
    folder = back.with_suffix(".snapshots")
    session = await client.create(snapshot=LocalSnapshotSpec(base_path=folder), manifest=Manifest(root=str(tree)))
    await session.start()
    path = folder / f"{session.state.snapshot.id}.tar"
    first = await stored(session, path)
    times = []
    for number in range(rounds):
        for change in range(changes):
            file = change * count // changes
            (tree / f"d{file % 100:03}" / str(file)).write_text(f"agents {number}")
        times.append(await stored(session, path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = session.state.model_copy(update={"manifest": Manifest(root=str(back))})
    start = time.perf_counter()
    other = await client.resume(state)
    await other.start()
    os.sync()
    restore = time.perf_counter() - start
    size = path.stat().st_size
    shutil.rmtree(folder)
    print(json.dumps({"first_s": first, "changed_s": sorted(times)[len(times) // 2], "bytes": size,
                      "restore_s": restore, "peak_kib": peak}))


asyncio.run(main())
