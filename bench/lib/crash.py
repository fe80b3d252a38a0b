"""Figure 12: from `kill -9` to the next model request."""
import json
import os
import shlex
import signal
import subprocess
import time

from measure import ModelServer, call, summary, turns_script, work_folder
from report import middle, row
from snapshots import FILES, SIZE

HELD = 5


def resume(bench):
    repeat = 3 if bench.quick else 10
    harness = [harness_killed(bench.moat) for _ in range(repeat)]
    sandbox = [sandbox_killed(bench.moat) for _ in range(repeat)]
    rows = []
    for what, values, limit in (("harness killed → next request", harness, 100),
                                ("sandbox killed → next request", sandbox, 150)):
        value = summary(values)
        rows.append(row("12", what, "moat", value, "ms", aim=f"≤ {limit} ms", met=middle(value) <= limit))
    files = FILES // 10 if bench.quick else FILES
    seconds = sandbox_killed(bench.moat, filled(files)) / 1000
    speed = files * SIZE / 1e6 / seconds
    what = f"sandbox with {files * SIZE // 1_000_000:,} MB killed → next request"
    rows.append(row("12", what, "moat", speed, "MB/s", aim="≥ 300 MB/s", met=speed >= 300))
    return rows


def filled(files):
    """A script whose first turn makes a large workspace."""
    code = (f"for $n (0..{files - 1}) {{ $d = sprintf 'd%03d', $n % 100; mkdir $d; open $f, '>', qq($d/$n) or die; "
            f"open $r, '<', '/dev/urandom'; read $r, $half, {SIZE // 2}; print $f 'm' x {SIZE // 2}, $half; }}")
    fill = call("exec_command", f"perl -e {shlex.quote(code)}", login=False, yield_time_ms=30_000)
    return [{"repeat": 1, "turn": fill}, *turns_script(2 * HELD - 1)]


class Held:
    """A run whose model keeps the answer to turn HELD back."""

    def __init__(self, moat, folder, script=None):
        self.moat, self.folder = moat, folder
        self.server = ModelServer(script or turns_script(2 * HELD), hold=HELD)
        command, self.environment = moat.command(folder, self.server.base_url)
        self.output = open(folder / "run.json", "wb")
        self.process = subprocess.Popen(command, env=self.environment, cwd=folder, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=self.output)
        self.server.wait_until_holding()

    def lines(self):
        return [json.loads(line) for line in (self.folder / "run.json").read_text().splitlines()]

    def run_id(self):
        return self.lines()[0]["run"]

    def sandbox_pid(self):
        """The first process of the sandbox that the run has now."""
        attached = [line["body"] for line in self.lines() if line.get("kind", "").startswith("sandbox_")]
        return attached[-1]["handle"]["process"]["pid"]

    def next_request_after(self, moment_ns):
        """Waits for the run's end; when the first request after the moment had arrived."""
        log = self.server.stop()
        return next(entry["received_ns"] for entry in log if entry["received_ns"] > moment_ns)

    def close(self):
        self.output.close()
        for process in (self.process, self.server.process):
            if process.poll() is None:
                process.kill()
            process.wait()


def harness_killed(moat):
    with work_folder() as folder:
        held = Held(moat, folder)
        try:
            run = held.run_id()
            killed = time.monotonic_ns()
            held.process.send_signal(signal.SIGKILL)
            held.process.wait()
            subprocess.run([moat.binary, "resume", run, "--json"], env=held.environment, cwd=folder,
                           stdin=subprocess.DEVNULL, stdout=held.output, stderr=held.output, check=True, timeout=60)
            return (held.next_request_after(killed) - killed) / 1e6
        finally:
            held.close()


def sandbox_killed(moat, script=None):
    """The sandbox dies while the model thinks; the answer then asks for a command in it."""
    with work_folder() as folder:
        held = Held(moat, folder, script)
        try:
            os.kill(held.sandbox_pid(), signal.SIGKILL)
            killed = time.monotonic_ns()
            held.server.release()
            if held.process.wait(120) != 0:
                raise RuntimeError("the run did not survive the loss of its sandbox")
            return (held.next_request_after(killed) - killed) / 1e6
        finally:
            held.close()
