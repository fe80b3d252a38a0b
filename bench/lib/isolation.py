"""The containment list, its probe, and the table of who contains what."""
import json
import os
import pathlib
import shutil
import subprocess

from measure import ROOT

SOURCES = ROOT / "crates/sandbox-local/tests/containment"
TOKEN = "a-value-of-the-hosts-environment"
ORDINARY = 61234
WORDS = {"contained": "contained", "escaped": "**escaped**", "unknown": "n/a", "absent": "absent"}


class Suite:
    """Builds the probe. `folder` can be read by everybody, for those that run as somebody else."""

    def __init__(self, folder):
        self.folder = folder
        folder.chmod(0o755)
        self.probe = folder / "probe"
        subprocess.run(["cc", "-static", "-O1", "-o", str(self.probe), *map(str, SOURCES.glob("probe/*.c")), "-lrt"],
                       check=True)
        self.properties = list(read_list())

    def run(self, subject):
        """The verdicts of one subject, with a host of its own to reach for."""
        who = {"user": subject.user, "group": subject.user, "extra_groups": []} if subject.user else {}
        made = self.folder / subject.slug
        work = made / "work"
        work.mkdir(parents=True)
        host = made / "host"
        host.mkdir()
        for path in (made, work, host):
            if subject.user:
                os.chown(path, subject.user, subject.user)
        shutil.copy(self.probe, work / "probe")
        environment = {"PATH": os.environ["PATH"], "HOME": str(made), "MOAT_TEST_MARKER": TOKEN}
        helper = subprocess.Popen([self.probe, "host", host, TOKEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, **who)
        try:
            told = []
            for line in helper.stdout:
                if line.strip() == "ready":
                    break
                told.append(line.strip())
            command = subject.command(made, work, told)
            done = subprocess.run(command, env={**environment, **subject.environment(made)}, cwd=work,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, **who)
        finally:
            helper.stdin.close()
            helper.wait()
            subject.clean()
        verdicts = {}
        for line in done.stdout.splitlines():
            name, verdict, *detail = line.split(" ", 2)
            if verdict in WORDS:
                verdicts[name] = (verdict, "".join(detail))
        if len(verdicts) < len(self.properties) // 2:
            raise RuntimeError(f"the probe did not run: {(done.stderr or done.stdout)[-300:].strip()}")
        return verdicts


def read_list():
    """Group, name, what is tried."""
    group = ""
    for line in (SOURCES / "properties.txt").read_text().splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        elif "|" in line and not line.startswith("#"):
            name, _, what = (part.strip() for part in line.split("|"))
            yield group, name, what


def table(properties, verdicts):
    names = list(verdicts)
    lines = ["| group | property | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for group, name, _ in properties:
        cells = [WORDS[verdicts[who].get(name, ("unknown", ""))[0]] for who in names]
        lines.append(f"| {group} | {name} | " + " | ".join(cells) + " |")
    for word in WORDS:
        sums = [sum(verdicts[who].get(name, ("unknown", ""))[0] == word for _, name, _ in properties) for who in names]
        label = WORDS[word].strip("*")
        lines.append(f"| **total** | {label} | " + " | ".join(f"**{count}**" for count in sums) + " |")
    return "\n".join(lines)


def write(properties, verdicts, out):
    text = table(properties, verdicts) + "\n"
    print(text)
    (out / "isolation.md").write_text(text)
    rows = [{"group": group, "name": name, "what": what,
             "verdicts": {who: dict(zip(("verdict", "detail"), found.get(name, ("unknown", "not tried"))))
                          for who, found in verdicts.items()}} for group, name, what in properties]
    (out / "isolation.json").write_text(json.dumps(rows, indent=1))
    print(f"written to {out}/isolation.md and isolation.json")
