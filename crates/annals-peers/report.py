#!/usr/bin/env python3
"""Makes tables of what run.py has written: report.py [RESULTS …] [--into README.md]

A figure is the median of the rounds. The ratio to the floor, which was measured immediately before, is the median of the rounds with the lowest and the highest; more is
better, also where the figure is a time. `--into` puts the tables between the two marks in a file instead of printing them.
"""
import argparse
import json
import pathlib
import statistics
from collections import defaultdict

HERE = pathlib.Path(__file__).resolve().parent
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
# A table: its title, and its columns: workload, figure, heading, unit.
TABLES = [
    ("W1: durable, one thread, one event a commit", [("W1", "per_second", "events", "/s")]),
    ("W2: durable, many threads, one event a commit", [(f"W2 {n} threads", "per_second", f"{n} threads", "/s") for n in (8, 32, 64)]),
    ("W3: durable, one thread, many events a commit", [(f"W3 {n} a commit", "per_second", f"{n} a commit", "/s") for n in (100, 1000)]),
    ("W4: not synced, one thread, one event a commit", [("W4", "per_second", "events", "/s")]),
    ("W5: replay, every byte touched", [("W5 1 thread", "per_second", "1 thread", "/s"), ("W5 2 threads", "per_second", "2 threads", "/s")]),
    ("W6: streams at random", [("W6", "per_second", "events of whole streams", "/s"), ("W6", "newest_p50_us", "newest event, median", "µs")]),
    ("W7: open, and read one event", [("W7 clean", "ready_ms", "closed cleanly", "ms"), ("W7 crashed", "ready_ms", "after a crash", "ms")]),
    ("W7: the same with 10 M events", [("W7 10 M clean", "ready_ms", "closed cleanly", "ms"), ("W7 10 M crashed", "ready_ms", "after a crash", "ms")]),
    ("W8: disk, with indexes, 1,000 events a commit", [("W8", "bytes", "an event", "B"), ("W8 10 M", "bytes", "of 10 M", "B")]),
    ("W9: from an append to a subscriber, median", [("W9", "p50_us", "from its return", "µs"), ("W9", "from_call_p50_us", "from its call", "µs")]),
    ("W10: by tag and type, median", [("W10", "find_p50_us", "find some 25 events", "µs"), ("W10", "guarded_p50_us", "durable append on condition", "µs")]),
]
# More columns, with figures that have no floor.
MORE = {
    "W1": [("p50_us", "median µs"), ("p99_us", "99 % µs"), ("processor_us", "processor µs")],
    "W7 clean": [("memory_mib", "MiB, clean")],
    "W7 crashed": [("memory_mib", "MiB, crashed")],
    "W7 10 M clean": [("memory_mib", "MiB, clean")],
    "W7 10 M crashed": [("memory_mib", "MiB, crashed")],
}


class Results:
    def __init__(self, paths):
        self.abouts, self.runs, self.order = [], defaultdict(list), []
        for line in (line for path in paths for line in pathlib.Path(path).read_text().splitlines()):
            run = json.loads(line)
            if "about" in run:
                self.abouts.append(run["about"])
                continue
            self.runs[run["workload"], run["engine"]].append(run)
            if run["engine"] not in self.order and run["engine"] != "floor":
                self.order.append(run["engine"])

    def values(self, workload, engine, figure, side="figures"):
        """Of the rounds that have it on both sides: a failed one has it on neither."""
        both = (run for run in self.runs[workload, engine] if figure in run["figures"])
        return [run[side].get(figure) for run in both if run[side].get(figure) is not None]

    def ratios(self, workload, engine, figure, unit):
        pairs = zip(self.values(workload, engine, figure), self.values(workload, engine, figure, "floor"))
        # A time that cannot be told from none counts as a tenth of a microsecond.
        pairs = [(max(value, 0.1), max(base, 0.1)) if unit == "µs" else (value, base) for value, base in pairs]
        return [value / base if unit == "/s" else base / value for value, base in pairs]

    def reason(self, workload, engine):
        """Why there is no figure; None if it was not asked for."""
        for run in self.runs.get((workload, engine), []):
            if "not_offered" in run["figures"]:
                return f"not offered: {run['figures']['not_offered']}"
            if "error" in run["figures"]:
                return "failed"
        return None


def number(value, unit=""):
    if unit == "/s":
        for size, letter in ((1e6, " M"), (1e3, " k")):
            if value >= size:
                return f"{value / size:.3g}{letter}/s"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".strip()


def ratio(value):
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 0}f}"


def cell(results, workload, engine, figure, unit):
    values = results.values(workload, engine, figure)
    if not values:
        return results.reason(workload, engine) or "–"
    ratios = results.ratios(workload, engine, figure, unit)
    spread = f" [{ratio(min(ratios))} .. {ratio(max(ratios))}]" if len(ratios) > 1 else ""
    return f"{number(statistics.median(values), unit)}; **{ratio(statistics.median(ratios))}**{spread}"


def more(results, workload, engine, figure):
    values = results.values(workload, engine, figure)
    return number(statistics.median(values)) if values else "–"


def durability(results, engine):
    """System calls and flushes of a commit. Other programs may flush at the same time, so the fewest count."""
    run = (results.runs.get(("syscalls", engine)) or [None])[0]
    calls = ", ".join(f"{count:g} {name}" for name, count in sorted(run["figures"]["calls"].items())) if run else "–"
    side = ("W1", results.order[0], "flushes", "floor") if engine == "floor" else ("W1", engine, "flushes")
    flushes = results.values(*side)
    return [calls, number(min(flushes)) if flushes else "–"]


def notices(results, engine):
    run = (results.runs.get(("flipped", engine)) or [None])[0]
    return ["–" if run is None or "notices" not in run["figures"] else "yes" if run["figures"]["notices"] else "no"]


# Columns that come from elsewhere, by the workload of a table's first column.
LAST = {
    "W1": (["system calls of a commit", "flushes of a commit"], durability),
    "W5 1 thread": (["notices a flipped bit"], notices),
}


def table(results, title, columns):
    asked = [c for c in columns if any((c[0], engine) in results.runs for engine in results.order)]
    if not asked:
        return []
    engines = [e for e in results.order if any((c[0], e) in results.runs for c in asked)]
    extra = [(workload, *each) for workload in dict.fromkeys(c[0] for c in asked) for each in MORE.get(workload, [])]
    last, tell = LAST.get(columns[0][0], ([], lambda *_: []))
    heads = ["", *(c[2] for c in asked), *(e[2] for e in extra), *last]
    lines = ["", f"### {title}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def row(name, cells):
        lines.append("| " + " | ".join([name, *cells]) + " |")

    floors = [[v for e in engines for v in results.values(w, e, f, "floor")] for w, f, _, _ in asked]
    cells = [number(statistics.median(values), c[3]) if values else "–" for values, c in zip(floors, asked)]
    row("floor", cells + ["" for _ in extra] + tell(results, "floor"))
    for engine in engines:
        reasons = {results.reason(c[0], engine) for c in asked} - {None}
        if len(reasons) == 1 and not any(results.values(c[0], engine, c[1]) for c in asked):
            row(engine, [reasons.pop()] + [""] * (len(heads) - 2))
            continue
        cells = [cell(results, w, engine, f, unit) for w, f, _, unit in asked]
        cells += [more(results, w, engine, f) for w, f, _ in extra]
        row("**annals**" if engine == "annals" else engine, cells + tell(results, engine))
    return lines


def behind(results):
    """Where Annals is not first."""
    lines = []
    for title, columns in TABLES:
        for workload, figure, heading, unit in columns:
            engines = [e for e in results.order if results.ratios(workload, e, figure, unit)]
            medians = {e: statistics.median(results.ratios(workload, e, figure, unit)) for e in engines}
            ahead = [e for e in engines if medians[e] > medians.get("annals", float("inf"))]
            if ahead:
                names = ", ".join(f"{e} {ratio(medians[e])}" for e in sorted(ahead, key=lambda e: -medians[e]))
                lines.append(f"* {title.split(':')[0]}, {heading}: annals {ratio(medians['annals'])}; {names}")
    return ["", "### Where others are ahead", "", *lines] if lines else []


def text(results):
    lines = []
    for about in results.abouts:
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        about["rounds"] = "1 round" if about["rounds"] == 1 else f"{about['rounds']} rounds"
        lines += [
            f"{about['machine']}; {about['date']}, load {about['load']} at the beginning; `{about['command']}`: {about['rounds']}, "
            f"{about['events']:,} events to read. {versions}.",
            "",
        ]
    lines.append("Each figure is followed by its ratio to the floor: median [lowest .. highest]. More is better.")
    for title, columns in TABLES:
        lines += table(results, title, columns)
    return "\n".join(lines + behind(results)) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", default=[HERE / "results.jsonl"])
    parser.add_argument("--into", type=pathlib.Path)
    arguments = parser.parse_args()
    # Each file is a measurement of its own: what was measured on one disk is not mixed with another.
    report = "\n".join(text(Results([results])) for results in arguments.results)
    if not arguments.into:
        print(report, end="")
        return
    page = arguments.into.read_text()
    before, rest = page.split(MARKS[0])
    arguments.into.write_text(f"{before}{MARKS[0]}\n\n{report}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
