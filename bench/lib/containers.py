"""How a command is run in Moat and in each peer."""
import atexit
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import peers
from isolation import ORDINARY
from measure import say

PACKAGES = {"bwrap": "bubblewrap", "dockerd": "docker.io", "runsc": "runsc", "busybox": "busybox-static"}
IMAGE = "moat-isolation:1"


class Subject:
    """Something that runs the probe; `user` is who starts it."""
    user = None

    def __init__(self, name, make, user=None):
        self.name, self.make, self.user = name, make, user
        self.slug = name.replace(" ", "-").replace(",", "")

    def command(self, made, work, told):
        return self.make(made, work, told)

    def environment(self, _made):
        return {}

    def clean(self):
        pass


def plain(_made, work, told):
    return [str(work / "probe"), *told]


def bubblewrap(_made, work, told):
    return ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
            "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
            "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
            "--bind", str(work), "/workspace", "--chdir", "/workspace", "/workspace/probe", *told]


def moat(binary):
    def make(made, work, told):
        return [binary, "sandbox", "run", "--data-dir", str(made / "data"), "--config-dir", str(made / "config"),
                "--dir", str(work), "--", "/workspace/probe", *told]
    return make


class Codex(Subject):
    """Its sandbox for commands; its home may not lie below /tmp."""

    def __init__(self, binary, user):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="codex-home-", dir="/var/tmp"))
        if user:
            os.chown(self.home, user, user)
        super().__init__("codex", lambda made, work, told: [
            binary, "sandbox", *linux(binary), "--", str(work / "probe"), *told], user)

    def environment(self, _made):
        return {"CODEX_HOME": str(self.home)}

    def clean(self):
        shutil.rmtree(self.home, ignore_errors=True)


def linux(binary):
    """Older versions name the system."""
    text = subprocess.run([binary, "sandbox", "--help"], capture_output=True, text=True).stdout
    return ["linux"] if "\n  linux" in text else []


class Docker:
    """An engine of our own without a network, with an image that holds a static shell."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="moat-docker-"))
        self.socket = f"unix://{self.folder}/docker.sock"
        wrapper = self.folder / "runsc"
        wrapper.write_text('#!/bin/sh\nexec runsc --platform=ptrace --network=none "$@"\n')
        wrapper.chmod(0o755)
        log = open(self.folder / "log", "w")
        self.engine = subprocess.Popen(
            ["dockerd", "--bridge=none", "--iptables=false", "--ip-forward=false", "-H", self.socket,
             "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
             "--pidfile", str(self.folder / "pid"), "--add-runtime", f"runsc={wrapper}"], stdout=log, stderr=log)
        atexit.register(self.stop)
        for _ in range(100):
            if self.call("version").returncode == 0:
                break
            time.sleep(0.2)
        else:
            raise RuntimeError("dockerd does not answer")
        tree = self.folder / "tree"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), tree / "bin/busybox")
        (tree / "bin/sh").symlink_to("busybox")
        packed = subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE)
        if self.call("import", "-", IMAGE, stdin=packed.stdout).returncode:
            raise RuntimeError("docker cannot import an image")

    def call(self, *arguments, **more):
        environment = {**os.environ, "DOCKER_API_VERSION": "1.41"}
        return subprocess.run(["docker", "-H", self.socket, *arguments], capture_output=True, env=environment, **more)

    def stop(self):
        self.engine.terminate()
        try:
            self.engine.wait(20)
        except subprocess.TimeoutExpired:
            self.engine.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *flags):
        def make(_made, work, told):
            return ["env", "DOCKER_API_VERSION=1.41", "docker", "-H", self.socket, "run", "--rm", *flags,
                    "-v", f"{work}:/workspace", "-w", "/workspace", IMAGE, "/bin/sh", "-c", '"$@"; exit $?', "sh",
                    "/workspace/probe", *told]
        return make


HARDENED = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "256", "--read-only",
            "--tmpfs", "/tmp", "--memory", "512m", "--network", "none", "--user", "1000:1000"]


def install(missing):
    if os.geteuid() != 0 and os.environ.get("MOAT_SETUP") != "1":
        return
    say("installing " + " ".join(missing) + " …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], check=True,
                       env=environment, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"cannot install: {error}")


def subjects(suite, options, wanted):
    """Those that can be run here, one after the other; the others are left out by name."""
    root = os.geteuid() == 0
    ordinary = ORDINARY if root else None
    needs = {"bwrap": ["bwrap"], "docker": ["dockerd", "docker", "busybox"], "gvisor": ["runsc", "dockerd", "docker", "busybox"]}
    tried = [name for name in ("moat", "plain", "bwrap", "codex", "docker", "gvisor") if not wanted or name in wanted]
    lacking = {PACKAGES.get(tool, tool) for name in tried for tool in needs.get(name, []) if not shutil.which(tool)}
    if lacking and not options.no_install:
        install(sorted(lacking - {"docker"}))
    engine = None
    for name in tried:
        absent = [tool for tool in needs.get(name, []) if not shutil.which(tool)]
        if absent:
            say(f"left out: {name}: no {', '.join(absent)}")
        elif name == "moat":
            binary = suite.folder / "moat"
            shutil.copy(options.moat or peers.build_moat(), binary)
            if root:
                yield Subject("moat, root", moat(str(binary)))
            yield Subject("moat, user", moat(str(binary)), ordinary)
        elif name == "plain":
            yield Subject("plain, user", plain, ordinary)
        elif name == "bwrap":
            yield Subject("bubblewrap, user", bubblewrap, ordinary)
        elif name == "codex":
            found = codex(options)
            if found:
                yield Codex(found, ordinary)
        elif not root:
            say(f"left out: {name}: needs root")
        else:
            try:
                engine = engine or Docker()
            except (OSError, RuntimeError) as error:
                say(f"left out: {name}: {error}")
                continue
            if name == "docker":
                yield Subject("docker, default", engine.run("--network", "none"))
                yield Subject("docker, hardened", engine.run(*HARDENED))
            else:
                yield Subject("gvisor", engine.run("--runtime", "runsc", "--network", "none"))


def codex(options):
    if peers.Codex(True).binary is None and not options.no_install:
        peers.install_codex()
    found = peers.Codex(True).binary
    if found is None:
        say("left out: codex: not installed")
    return found
