"""Figures 8 and 11: durable appends, and what a long run costs."""
import json
import subprocess

from measure import OUT, ROOT, one_run, run, say, turns_script, work_folder
from peers import plain_environment, target_folder, tree_bytes
from report import row


def append(bench):
    """Figure 8: durable appends of 2 KiB against raw SQLite on the same disk; many runs at once."""
    command = ["cargo", "run", "--release", "--quiet", "--locked", "-p", "moat-journal",
               "--example", "append_bench", "--", str(OUT), "1000" if bench.quick else "4000"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    measured = json.loads(done.stdout)
    size = f"{measured['body_bytes']} B"
    many = f"durable appends of {size}, {measured['runs']} runs at once"
    ratio = measured["ratio_p50"]
    return [
        row("8", f"durable append of {size}, p50", "moat-journal", measured["append_p50_us"] / 1e3, "ms"),
        row("8", f"durable append of {size}, p99", "moat-journal", measured["append_p99_us"] / 1e3, "ms"),
        row("8", f"durable append of {size}, p50", "raw SQLite", measured["raw_p50_us"] / 1e3, "ms"),
        row("8", f"durable append of {size}, p99", "raw SQLite", measured["raw_p99_us"] / 1e3, "ms"),
        row("8", "p50 ÷ raw p50", "moat-journal", ratio, "", aim="≤ 1.5", met=ratio <= 1.5),
        row("8", many, "moat-journal", measured["appends_per_s"], "/s", aim="≥ 20,000 /s",
            met=measured["appends_per_s"] >= 20_000),
        row("8", "durable appends, one after the other", "raw SQLite", measured["raw_appends_per_s"], "/s"),
    ]


def long_runs(bench):
    """Figure 11: stored bytes and CPU of runs of growing length."""
    lengths = [100, 500, 2000] if bench.quick else [100, 1000, 5000]
    rows = growth(bench.moat, lengths[:1] + [300, 1000], None)
    rows += own_growth(lengths)
    for peer in bench.peers:
        if peer.slug != "codex-bare":
            rows += growth(peer, [50, 100, 200] if bench.quick else [100, 200, 400], None)
    return rows


def own_growth(lengths):
    """The harness with its journal and without HTTP: nothing here has to grow with the square."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "moat-harness", "--example", "long_run"],
                   cwd=ROOT, check=True)
    program = target_folder() / "release/examples/long_run"
    points = []
    for turns in lengths:
        with work_folder() as folder:
            say(f"  moat, model in process: {turns} turns")
            command = [str(program), str(turns), str(folder / "data"), str(folder / "keys")]
            cost = run(command, plain_environment(), folder, OUT / "last-long-run.log")
            if cost["exit"] != 0:
                raise RuntimeError("long_run failed; see bench/out/last-long-run.log")
            points.append({"turns": turns, "stored_bytes": tree_bytes(folder / "data"),
                           "cpu_ms": (cost["user_us"] + cost["system_us"]) / 1e3})
    who = "moat, model in process"
    rows = []
    for point in points:
        rows.append(row("11", f"stored, {point['turns']} turns", who, point["stored_bytes"] / 1024, "KiB"))
        rows.append(row("11", f"CPU without sending, {point['turns']} turns", who, point["cpu_ms"], "ms"))
    for what, key in (("stored bytes", "stored_bytes"), ("CPU without sending", "cpu_ms")):
        ratio = slope_ratio([(p["turns"], p[key]) for p in points])
        rows.append(row("11", f"{what}: slope at the end ÷ at the start", who, ratio, "", aim="≤ 1.1",
                        met=ratio <= 1.1, points=points))
    return rows


def growth(program, lengths, aim):
    points = []
    for turns in lengths:
        say(f"  {program.name}: {turns} turns")
        cost, log = one_run(program, turns_script(turns))
        points.append({"turns": turns, "stored_bytes": cost["stored_bytes"],
                       "cpu_ms": (cost["user_us"] + cost["system_us"]) / 1e3,
                       "sent_bytes": sum(entry["bytes"] for entry in log)})
    rows = []
    for point in points:
        turns = point["turns"]
        rows.append(row("11", f"stored, {turns} turns", program.name, point["stored_bytes"] / 1024, "KiB"))
        rows.append(row("11", f"CPU with sending, {turns} turns", program.name, point["cpu_ms"], "ms",
                        sent_bytes=point["sent_bytes"]))
    ratio = slope_ratio([(p["turns"], p["stored_bytes"]) for p in points])
    rows.append(row("11", "stored bytes: slope at the end ÷ at the start", program.name, ratio, "", aim=aim,
                    met=ratio <= 1.1 if aim else None, points=points))
    return rows


def slope_ratio(points):
    """1 is a straight line; more is growth that speeds up."""
    (x0, y0), (x1, y1), (x2, y2) = points
    return ((y2 - y1) / (x2 - x1)) / ((y1 - y0) / (x1 - x0))
