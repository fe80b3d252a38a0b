"""One table, the numbers behind it, and a chart."""
import json
import math
import os
import platform
import time

COLUMNS = ("figure", "what", "who", "measured", "against Moat", "aim", "")


def row(figure, what, who, value, unit, aim=None, met=None, ratio=None, **more):
    """One measured value. `value` is a number or a summary with its median."""
    return {"figure": figure, "what": what, "who": who, "value": value, "unit": unit, "aim": aim,
            "met": met, "ratio": ratio, **more}


def missing(figure, why):
    return row(figure, "could not be measured", "", None, "", note=str(why))


def middle(value):
    return value["median"] if isinstance(value, dict) else value


def with_ratios(rows):
    """Says for every peer's row how many times Moat's value it is."""
    own = {(r["figure"], r["what"]): middle(r["value"]) for r in rows if r["who"] == "moat"}
    for r in rows:
        base = own.get((r["figure"], r["what"]))
        if r["ratio"] is None and r["who"] not in ("moat", "") and base and r["value"] is not None:
            r["ratio"] = middle(r["value"]) / base
        if r.get("ratio_aim") and r["ratio"] is not None:
            r["aim"], r["met"] = f"≥ {r['ratio_aim']}×", r["ratio"] >= r["ratio_aim"]
    return rows


def number(value):
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def measured(r):
    value, unit = r["value"], r["unit"]
    if value is None:
        return r.get("note", "–")
    if isinstance(value, dict):
        return f"{number(value['median'])} {unit} ({number(value['min'])}–{number(value['max'])}, n={value['n']})"
    return f"{number(value)} {unit}"


def cells(r):
    ratio = "" if r["ratio"] is None else f"{number(r['ratio'])}×"
    met = {True: "met", False: "missed", None: ""}[r["met"]]
    return (r["figure"], r["what"], r["who"], measured(r), ratio, r["aim"] or "", met)


def table(rows):
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)] + [cells(r) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    out = []
    for line in lines:
        fill = "-" if line[0] == "---" else " "
        padded = [("" if fill == "-" else cell).ljust(width, fill) for cell, width in zip(line, widths)]
        out.append("| " + " | ".join(padded) + " |")
    return "\n".join(out)


def machine():
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "load_before": os.getloadavg()[0], "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def write(rows, subjects, out):
    rows = with_ratios(rows)
    versions = {subject.name: subject.version() for subject in subjects}
    host = machine()
    heading = (f"{host['cores']} × {host['processor']}, kernel {host['kernel']}, {host['at']}; "
               + ", ".join(f"{name} {version}" for name, version in versions.items()))
    text = f"{heading}\n\n{table(rows)}\n"
    print(text)
    (out / "figures.md").write_text(text)
    (out / "figures.json").write_text(json.dumps({"machine": host, "versions": versions, "rows": rows}, indent=1))
    (out / "figures.svg").write_text(chart([r for r in rows if r["figure"] in ("1", "2", "3") and r["value"]], heading))
    print(f"written to {out}/figures.json, figures.md and figures.svg")


def chart(rows, heading):
    """Bars on a logarithmic scale, a group for each thing measured."""
    groups = {}
    for r in rows:
        groups.setdefault((r["what"], r["unit"]), []).append(r)
    parts, y = [], 50
    for (what, unit), members in groups.items():
        values = [middle(r["value"]) for r in members]
        low = 10 ** math.floor(math.log10(max(min(values), 0.01)))
        high = max(max(values), low * 10)
        parts.append(f'<text x="16" y="{y}" class="h">{escape(what)}, {escape(unit)} (log scale)</text>')
        for r, value in zip(members, values):
            y += 22
            width = 430 * math.log10(max(value / low, 1.02)) / math.log10(high / low)
            kind = "own" if r["who"] == "moat" else "peer"
            parts.append(f'<text x="196" y="{y + 11}" text-anchor="end">{escape(r["who"])}</text>')
            parts.append(f'<rect x="204" y="{y}" width="{width:.0f}" height="14" class="{kind}"/>')
            parts.append(f'<text x="{210 + width:.0f}" y="{y + 11}">{number(value)}</text>')
        y += 42
    style = "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.own{fill:#0b6e4f}.peer{fill:#9aa5b1}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" viewBox="0 0 720 {y}">'
            f'<style>{style}</style><rect width="720" height="{y}" fill="#fff"/>'
            f'<text x="16" y="22">{escape(heading)}</text>{"".join(parts)}</svg>\n')


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
