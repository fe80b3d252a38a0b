"""Figure 13: a patch of many hunks on a long file, from the tool's input to the file that it makes.

Once as the file has its lines, and once indented otherwise, as models often write them: then every hunk is
looked for a second and a third time, without blanks.
"""
import json
import pathlib
import subprocess
import tempfile

import peers
from measure import ROOT
from report import row

LINES, HUNKS, ROUNDS = 10_000, 100, 20
WHAT = "patch of 100 hunks on a file of 10,000 lines"
OTHERWISE = WHAT + ", indented otherwise"

PEER = """
import json, pathlib, sys, time
from agents.apply_diff import apply_diff
file, diff, expected, rounds = (pathlib.Path(word) for word in sys.argv[1:5])
times = []
for _ in range(int(str(rounds))):
    start = time.perf_counter()
    made = apply_diff(file.read_text(), diff.read_text())
    file.with_suffix(".peer").write_text(made)
    times.append(time.perf_counter() - start)
    assert made == expected.read_text()
print(sorted(times)[len(times) // 2] * 1000)
"""


def texts():
    """The file, the hunks, and what they make of it. Every line is there once."""
    lines = [f"line {number} of a file that is as long as long files are" for number in range(LINES)]
    after, hunks = list(lines), []
    for hunk in range(HUNKS):
        at = hunk * LINES // HUNKS + 50
        after[at] = f"line {at}, which hunk {hunk} made"
        hunks += ["@@", *(" " + line for line in lines[at - 3:at]), "-" + lines[at], "+" + after[at],
                  *(" " + line for line in lines[at + 1:at + 4])]
    end = lambda text: "\n".join(text) + "\n"
    return end(lines), end(hunks), end(after)


def indented(hunks):
    """The same hunks, with the lines that are looked for further in."""
    return "".join(line[0] + "  " + line[1:] if line[0] in " -" else line for line in hunks.splitlines(True))


def apply(bench):
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "moat-harness", "--example", "patch"],
                   cwd=ROOT, check=True)
    program = peers.target_folder() / "release/examples/patch"
    peer = next((peer for peer in bench.peers if peer.slug == "openai-agents"), None)
    call = lambda *words: subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    before, hunks, after = texts()
    found = []
    with tempfile.TemporaryDirectory(prefix="moat-bench-") as folder:
        folder = pathlib.Path(folder)
        file, diff, patch, expected = (folder / name for name in ("file.txt", "diff", "patch", "expected"))
        file.write_text(before)
        expected.write_text(after)
        for what, hunks in ((WHAT, hunks), (OTHERWISE, indented(hunks))):
            diff.write_text(hunks)
            patch.write_text(f"*** Begin Patch\n*** Update File: file.txt\n{hunks}*** End Patch\n")
            took = json.loads(call(program, file, patch, expected, ROUNDS).stdout)
            over = took["patch_ms"] / took["floor_ms"]
            found += [
                row("13", what, "moat", took["patch_ms"], "ms"),
                row("13", f"{what}: against reading and writing it", "moat", over, "×", aim="≤ 3×", met=over <= 3),
            ]
            if peer:
                time_taken = float(call(peer.binary, "-c", PEER, file, diff, expected, 3).stdout)
                found.append(row("13", what, peer.name, time_taken, "ms", ratio_aim=50))
    return found
