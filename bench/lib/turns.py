"""Figures 1, 2, 3 and 14: start, time per turn, memory, and the stable prefix of requests."""
import dataclasses
import json
import tempfile

from measure import OUT, compiled, gaps_ms, one_run, summary, turns_script
from report import middle, row

TURNS = 50


@dataclasses.dataclass(eq=False)
class Bench:
    """What is measured, and how thoroughly."""
    moat: object
    peers: list
    quick: bool
    fifty: dict = dataclasses.field(default_factory=dict)

    def everyone(self):
        return [self.moat, *self.peers]

    def fifty_turns(self, program):
        """Runs of fifty turns, made once for figures 2 and 3."""
        if program.slug not in self.fifty:
            repeat = 2 if self.quick else 5
            script = turns_script(TURNS)
            self.fifty[program.slug] = [one_run(program, script) for _ in range(repeat)]
        return self.fifty[program.slug]


def start(bench):
    """Figure 1: from starting the process to its first model request; a whole one-turn run."""
    first, whole = [], []
    for program in bench.everyone():
        repeat = (3 if bench.quick else 10) * (2 if program is bench.moat else 1)
        runs = [one_run(program, turns_script(0)) for _ in range(repeat)]
        first.append((program, summary([(log[0]["received_ns"] - cost["start_ns"]) / 1e6 for cost, log in runs])))
        whole.append((program, summary([(cost["end_ns"] - cost["start_ns"]) / 1e6 for cost, _ in runs])))
    ratios = {"codex-sandboxed": 7, "openai-agents": 50}
    return (aimed("1", "start → first model request", first, "ms", 15, ratios)
            + aimed("1", "whole process, one turn", whole, "ms", 40, ratios))


def per_turn(bench):
    """Figure 2: the harness's own time from an answer to the next request, and its CPU."""
    time, cpu, serving = [], [], []
    for program in bench.everyone():
        runs = bench.fifty_turns(program)
        gaps = [gap for _, log in runs for gap in gaps_ms(log)]
        time.append((program, summary(gaps)))
        cpu.append((program, summary([(cost["user_us"] + cost["system_us"]) / 1e3 / TURNS for cost, _ in runs])))
        serving += [(entry["sent_ns"] - entry["received_ns"]) / 1e6 for _, log in runs for entry in log]
    ratios = {"codex-sandboxed": 20, "openai-agents": 20}
    rows = aimed("2", f"time per turn, {TURNS} × echo", time, "ms", 4, ratios)
    rows += aimed("2", "CPU per turn, whole run ÷ turns", cpu, "ms", None)
    rows.append(row("2", "durable syncs per turn", "moat", syncs_per_turn(bench.moat), ""))
    rows.append(row("2", "the model server's own time per request (not part of the above)", "server",
                    summary(serving), "ms"))
    return rows


def syncs_per_turn(moat):
    """What a turn makes durable, counted in a run of its own and against a run without turns."""
    counts = []
    for turns in (0, TURNS):
        with tempfile.NamedTemporaryFile(prefix="syncs-", dir=OUT) as file:
            counted = Preloaded(moat, compiled("count_syncs.c", "-shared", "-fPIC"), file.name)
            one_run(counted, turns_script(turns))
            counts.append(int(file.read() or 0))
    return (counts[1] - counts[0]) / TURNS


class Preloaded:
    """A program with the counter in it."""

    def __init__(self, program, library, report):
        self.program, self.library, self.report = program, library, report
        self.name, self.slug = program.name, program.slug + "-counted"

    def command(self, folder, base_url):
        command, environment = self.program.command(folder, base_url)
        return command, {**environment, "LD_PRELOAD": self.library, "COUNT_SYNCS": self.report}

    def stored_bytes(self, folder):
        return 0


def memory(bench):
    """Figure 3: the largest process of those runs."""
    peaks = [(program, summary([cost["peak_kib"] / 1024 for cost, _ in bench.fifty_turns(program)]))
             for program in bench.everyone()]
    return aimed("3", f"peak memory, {TURNS} turns", peaks, "MiB", 20)


def aimed(figure, what, values, unit, limit, ratios=None):
    """Rows of one figure: a limit for Moat, and how many times its value a peer's is to be."""
    rows = []
    for program, value in values:
        own = program.slug == "moat"
        aim = f"≤ {limit} {unit}" if own and limit else None
        met = middle(value) <= limit if aim else None
        rows.append(row(figure, what, program.name, value, unit, aim=aim, met=met,
                        ratio_aim=(ratios or {}).get(program.slug)))
    return rows


def stable_prefix(bench):
    """Figure 14: how much of what one request sent comes back byte for byte in the next."""
    rows = []
    for program in bench.everyone():
        with tempfile.TemporaryDirectory(prefix="bodies-", dir=OUT) as folder:
            _, log = one_run(program, turns_script(TURNS), bodies=folder)
            bodies = [open(f"{folder}/{n:06d}.json", encoding="utf-8").read() for n in range(len(log))]
        share = prefix_share([conversation(body) for body in bodies])
        own = program is bench.moat
        rows.append(row("14", f"stable prefix of requests, {TURNS} turns", program.name, share * 100, "%",
                        aim="100 %" if own else None, met=share == 1.0 if own else None))
    return rows


def conversation(body):
    """What a prompt cache keys on, in its order: tools, instructions, and the input's items."""
    request = json.loads(body)
    given = request.get("input") or []
    items = [given] if isinstance(given, str) else given
    parts = [request.get("tools") or [], request.get("instructions") or "", *items]
    return [json.dumps(part, separators=(",", ":")) for part in parts]


def prefix_share(requests):
    """Bytes that the next request repeats at the same place, of all bytes that were sent before."""
    kept = sent = 0
    for before, after in zip(requests, requests[1:]):
        sent += sum(map(len, before))
        for one, other in zip(before, after):
            if one != other:
                break
            kept += len(one)
    return kept / sent if sent else 1.0
