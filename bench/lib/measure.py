"""Runs programs against the model server and says what they cost."""
import contextlib
import json
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = HERE.parent / "out"


def say(text):
    print(text, file=sys.stderr, flush=True)


def call(name, command, login=True, **more):
    """A turn with one command, as every harness here knows it."""
    arguments = {"cmd": command, **more}
    if not login:
        arguments["login"] = False
    return [{"type": "function_call", "name": name, "arguments": arguments}]


def turns_script(count, command="echo hi"):
    """`count` commands, then a word. No login shell: otherwise the host's profile is timed."""
    return [{"repeat": count, "turn": call("exec_command", command, login=False)},
            [{"type": "message", "text": "done"}]]


def compiled(source, *flags):
    """One of the small C programs beside this file; built when it changed."""
    source = HERE / source
    built = OUT / source.stem
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", *flags, "-o", built, source, "-ldl"], check=True)
    return str(built)


class ModelServer:
    """The server, started for one measurement."""

    def __init__(self, script, bodies=None, hold=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="server-", dir=OUT))
        self.log_file = self.folder / "log.json"
        script_file = self.folder / "script.json"
        script_file.write_text(json.dumps(script))
        command = [sys.executable, str(HERE / "model_server.py"), "--script", str(script_file),
                   "--log", str(self.log_file)]
        if bodies:
            command += ["--bodies", str(bodies)]
        if hold is not None:
            command += ["--hold", str(hold)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    def wait_until_holding(self):
        """Waits until a request's answer is kept back; at most two minutes."""
        ready, _, _ = select.select([self.process.stdout], [], [], 120)
        if not ready:
            raise RuntimeError("the request that was to be held never came")
        return self.process.stdout.readline()

    def release(self):
        self.process.send_signal(signal.SIGUSR1)

    def stop(self):
        """Ends it and gives its log: turn, bytes, when received and when answered."""
        self.process.terminate()
        self.process.wait(20)
        return json.loads(self.log_file.read_text())


@contextlib.contextmanager
def work_folder():
    """A fresh folder outside /tmp (a peer refuses to work there)."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=OUT, ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


def run(command, environment, folder, log=None):
    """Runs a command to its end; what it cost, from `spawn`."""
    result = folder / "spawn.json"
    with open(log or os.devnull, "wb") as output:
        subprocess.run([compiled("spawn.c"), str(result), *command], env=environment, cwd=folder,
                       stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
    return json.loads(result.read_text())


def one_run(program, script, bodies=None):
    """One run of a program on a script: the cost of the process and the log of the server."""
    with work_folder() as folder:
        server = ModelServer(script, bodies)
        try:
            log_file = OUT / f"last-{program.slug}.log"
            command, environment = program.command(folder, server.base_url)
            cost = run(command, environment, folder, log_file)
        finally:
            requests = server.stop()
        cost["stored_bytes"] = program.stored_bytes(folder)
    wanted = sum(turn.get("repeat", 1) if isinstance(turn, dict) else 1 for turn in script)
    if cost["exit"] != 0 or len(requests) < wanted:
        raise RuntimeError(f"{program.name}: exit {cost['exit']}, signal {cost['signal']}, "
                           f"{len(requests)} of {wanted} requests; see {log_file}")
    return cost, requests


def gaps_ms(requests):
    """From the end of each answer to the end of the next request: the harness's own time."""
    pairs = zip(requests, requests[1:])
    return [(after["received_ns"] - before["sent_ns"]) / 1e6 for before, after in pairs]


def summary(values):
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
