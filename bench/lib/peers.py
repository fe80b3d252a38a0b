"""The programs that are measured, and how to get those that are not ours."""
import os
import pathlib
import shutil
import subprocess
import sys

from measure import HERE, OUT, ROOT, say

CODEX = "@openai/codex"
AGENTS = ["openai-agents", "aiohttp"]


def plain_environment(**more):
    """What a program needs to run, and nothing of the caller's that could change the numbers."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return {**keep, "OPENAI_API_KEY": "sk-bench", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


class Moat:
    """Our own, with its sandbox and its journal."""
    name, slug = "moat", "moat"

    def __init__(self, binary):
        self.binary = str(binary)

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def environment(self, folder, base_url):
        return plain_environment(OPENAI_BASE_URL=base_url, MOAT_DATA_DIR=str(folder / "data"),
                                 MOAT_CONFIG_DIR=str(folder / "config"))

    def command(self, folder, base_url):
        agent = folder / "agent"
        agent.mkdir()
        (agent / "AGENT.md").write_text(
            "---\nversion: 1\nname: bench\nmodel: gpt-5.5\nlimits:\n  turns: 100000\n---\nWork on the files.\n")
        return [self.binary, "run", str(agent), "go", "--json"], self.environment(folder, base_url)

    def stored_bytes(self, folder):
        return tree_bytes(folder / "data")


class Codex:
    """The Codex command line, called as its native binary (its npm shim would add Node's start)."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.name = "codex, " + ("sandboxed" if sandbox else "no sandbox")
        self.slug = "codex-sandboxed" if sandbox else "codex-bare"
        found = sorted((OUT / "peers/node_modules/@openai").glob("codex-*/vendor/*/bin/codex"))
        self.binary = str(found[0]) if found else None

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def command(self, folder, base_url):
        # An empty home: the profile of the host's shell would be replayed before every command.
        home, user_home, work = folder / "codex-home", folder / "home", folder / "work"
        for made in (home, user_home, work):
            made.mkdir()
        (home / "config.toml").write_text(
            'model = "gpt-5.5"\nmodel_provider = "bench"\n[model_providers.bench]\nname = "bench"\n'
            f'base_url = "{base_url}"\nwire_api = "responses"\nrequest_max_retries = 0\nstream_max_retries = 0\n')
        mode = "workspace-write" if self.sandbox else "danger-full-access"
        command = [self.binary, "exec", "--skip-git-repo-check", "--json", "-s", mode, "-C", str(work), "go"]
        return command, plain_environment(CODEX_HOME=str(home), HOME=str(user_home))

    def stored_bytes(self, folder):
        return tree_bytes(folder / "codex-home" / "sessions")


class OpenAiAgents:
    """The Agents SDK for Python with its UnixLocal sandbox (a folder, no isolation)."""
    name, slug = "openai-agents UnixLocal", "openai-agents"

    def __init__(self):
        python = OUT / "venv/bin/python"
        self.binary = str(python) if python.exists() else None

    def version(self):
        code = "import importlib.metadata as m; print(m.version('openai-agents'))"
        return subprocess.run([self.binary, "-c", code], capture_output=True, text=True).stdout.strip()

    def command(self, folder, base_url):
        command = [self.binary, str(HERE / "agents_peer.py"), "100000", str(folder / "session.sqlite")]
        home = folder / "home"
        home.mkdir()
        return command, plain_environment(OPENAI_BASE_URL=base_url, HOME=str(home))

    def stored_bytes(self, folder):
        return sum(path.stat().st_size for path in folder.glob("session.sqlite*"))


def tree_bytes(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file() and not path.is_symlink())


def install_peers():
    """Gets the peers below bench/out; what cannot be had is named and left out."""
    OUT.mkdir(exist_ok=True)
    python = OUT / "venv/bin/python"
    if not python.exists():
        say("installing openai-agents below bench/out …")
        try:
            subprocess.run([sys.executable, "-m", "venv", str(OUT / "venv")], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *AGENTS], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(OUT / "venv", ignore_errors=True)
            say(f"openai-agents cannot be installed: {error}")
    install_codex()


def install_codex():
    """Gets Codex below bench/out, if it is not there."""
    if Codex(True).binary is None:
        say("installing codex below bench/out …")
        try:
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(OUT / "peers"), CODEX],
                           check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"codex cannot be installed: {error}")


def build_moat():
    """Our own release build."""
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "moat"], cwd=ROOT, check=True)
    return target_folder() / "release/moat"


def target_folder():
    """Where cargo puts what it builds."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def available(install):
    """The peers that can be run."""
    if install:
        install_peers()
    known = [Codex(True), Codex(False), OpenAiAgents()]
    for peer in known:
        if peer.binary is None:
            say(f"left out: {peer.name} is not installed")
    return [peer for peer in known if peer.binary]
