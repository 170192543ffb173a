#!/usr/bin/env python3
"""Runs every engine at every workload, each beside the floor, and writes a line of JSON for each to a file.

usage: run.py {full,quick,smoke,large,syscalls} [--dir DIR] [--results FILE] [--engines A,B] [--workloads W1,W2] [--rounds N] [--events N] [--wrap COMMAND]

  full      5 rounds of about a second each, 1 M events to read
  quick     3 rounds of a third of a second each, 300,000 events
  smoke     one very short round: does everything work?
  large     opening 10 M events, 5 rounds
  syscalls  the system calls of a commit (also the first thing that the others do), by strace

All engines take their turn in each round, and the floor is measured immediately before each, so that what else happens on the machine meets both sides of a ratio.
DIR (default: beside the build) should be on the disk that is to be measured; the files are in a folder there, which is removed. 12 GiB must be free (30 for `large`). COMMAND goes in front of each run, such as
"chrt -r 5" where other work would take the processor away.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
EVENT_STORES = ["annals", "tephra", "umadb"]
STORES = EVENT_STORES + ["sqlite", "redb", "fjall", "lmdb"]
ENGINES = STORES + ["okaywal", "raft-engine"]
QUEUED = ["gc:sqlite", "gc:redb", "gc:fjall", "gc:lmdb"]

PLANS = {  # rounds, seconds a run, events, numbers of threads
    "full": (5, 1.0, 1_000_000, [8, 32, 64]),
    "quick": (3, 0.3, 300_000, [8, 64]),
    "smoke": (1, 0.1, 20_000, [8]),
    "large": (5, 1.0, 10_000_000, []),
    "syscalls": (0, 0.0, 0, []),
}
CALLS = "fdatasync,fsync,sync_file_range,msync,pwrite64,pwritev,pwritev2,write,writev,io_uring_enter"
TAGS = 10_000
# What `replay` says when the engine has noticed nothing.
CHANGED = "something else is read than was written"
# In the data of every event.
MARK = b'"note":"'


class Runner:
    def __init__(self, arguments):
        self.plan = arguments.plan
        # What the table says of the command: where the files were tells nobody anything.
        told = {name: value for name, value in vars(arguments).items() if value and name not in ("plan", "dir", "results")}
        self.told = [self.plan, *(f"--{name}={value}" for name, value in told.items())]
        self.rounds, self.seconds, self.events, self.threads = PLANS[arguments.plan]
        self.rounds, self.events = arguments.rounds or self.rounds, arguments.events or self.events
        self.binary = build()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="annals-peers-", dir=arguments.dir or self.binary.parent.parent))
        self.wrap = shlex.split(arguments.wrap)
        self.engines = arguments.engines.split(",") if arguments.engines else None
        self.workloads = arguments.workloads.split(",") if arguments.workloads else None
        self.results = open(arguments.results, "a")
        self.declined = set()  # (workload, engine)
        self.failed = 0

    def wants(self, workload):
        return not self.workloads or workload.split()[0] in self.workloads

    def some(self, engines):
        return [engine for engine in engines if not self.engines or engine in self.engines]

    def call(self, engine, *arguments, before=()):
        command = [*self.wrap, *before, self.binary, engine, *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            return {"error": "it took more than 15 minutes"}
        line = (done.stdout.strip().splitlines() or [""])[-1]
        if not line.startswith("{"):
            return {"error": done.stderr.strip()[-300:] or f"exit {done.returncode}"}
        return json.loads(line)

    def write(self, **line):
        self.results.write(json.dumps(line) + "\n")
        self.results.flush()

    def pair(self, round, workload, engine, floor, run):
        """The floor, then the engine."""
        if not self.wants(workload) or (workload, engine) in self.declined:
            return
        started = time.time()
        base = self.call("floor", *floor)
        figures = self.call(engine, *run)
        if "not_offered" in figures:
            self.declined.add((workload, engine))
        self.failed += "error" in figures or "error" in base
        self.write(round=round, workload=workload, engine=engine, floor=base, figures=figures)
        told = figures.get("error") or figures.get("not_offered") or {k: float(f"{v:.4g}") for k, v in figures.items()}
        print(f"{round} {workload:<22} {engine:<12} {time.time() - started:5.1f} s  {told}", flush=True)

    # ---- the rounds ----

    def run(self):
        self.write(about=about(self.dir, self.told, self.rounds, self.events))
        if self.plan == "large":
            return self.large()
        if self.wants("W1"):
            self.syscalls()
        if self.wants("W5"):
            self.flipped()
        self.load()
        for round in range(self.rounds):
            self.appends(round)
            self.reads(round)

    def appends(self, round):
        short = self.seconds / 2

        def append(workload, engines, *how):
            run = ["append", "--dir", self.dir / "run", *how, "--seconds"]
            for engine in self.some(engines):
                self.pair(round, workload, engine, [*run, short], [*run, self.seconds])

        append("W1", ENGINES)
        for threads in self.threads:
            append(f"W2 {threads} threads", ENGINES + QUEUED, "--threads", threads)
        for batch in (100, 1000):
            append(f"W3 {batch} a commit", ENGINES, "--batch", batch)
        append("W4", ENGINES, "--unsynced")
        run = ["subscribe", "--dir", self.dir / "run", "--appends", int(1000 * self.seconds)]
        for engine in self.some(ENGINES):
            self.pair(round, "W9", engine, run, run)

    def reads(self, round):
        short = self.seconds / 2
        for engine in self.some(ENGINES):
            sets = [self.set("floor"), self.set(engine)]
            for threads in (1, 2):
                run = [["replay", "--dir", each, "--threads", threads, "--seconds", short] for each in sets]
                self.pair(round, f"W5 {threads} thread{'s' * (threads > 1)}", engine, *run)
            run = [["streams", "--dir", each, "--seconds", seconds] for each, seconds in zip(sets, (short, self.seconds))]
            self.pair(round, "W6", engine, *run)
            self.open(round, "W7", engine)
            tagged = [self.set("floor", tagged=True), self.set(engine, tagged=True)]
            run = [["query", "--dir", each, "--seconds", seconds] for each, seconds in zip(tagged, (short, self.seconds))]
            self.pair(round, "W10", engine, *run)

    def open(self, round, workload, engine):
        floor = ["open", "--dir", self.set("floor")]
        self.pair(round, f"{workload} clean", engine, floor, ["open", "--dir", self.set(engine)])
        scratch, crashed = self.dir / "scratch", self.dir / f"{self.set(engine).name}-crashed"
        if self.wants("W7"):
            # Opening mends, so each time needs a copy of its own.
            shutil.rmtree(scratch, ignore_errors=True)
            if crashed.exists():
                shutil.copytree(crashed, scratch)
            os.sync()
            self.pair(round, f"{workload} crashed", engine, floor, ["open", "--dir", scratch])
            shutil.rmtree(scratch, ignore_errors=True)

    # ---- data sets ----

    def set(self, engine, tagged=False):
        return self.dir / f"{'tagged' if tagged else 'set'}-{engine}"

    def load(self):
        crashed = ["--crashed"] if self.wants("W7") else []
        if any(map(self.wants, ["W5", "W6", "W7", "W8"])):
            for engine in ["floor", *self.some(ENGINES)]:
                self.fill(engine, self.set(engine), *crashed)
        if self.wants("W10"):
            for engine in ["floor", *self.some(EVENT_STORES)]:
                self.fill(engine, self.set(engine, tagged=True), "--tags", min(TAGS, self.events // 100))

    def fill(self, engine, dir, *how):
        started = time.time()
        figures = self.call(engine, "load", "--dir", dir, "--events", self.events, *how)
        self.failed += "error" in figures
        workload = "tagged" if "--tags" in how else "W8 10 M" if self.plan == "large" else "W8"
        self.write(round=0, workload=workload, engine=engine, floor={"bytes": figures.get("content")}, figures=figures)
        print(f"- load {dir.name:<20} {time.time() - started:5.1f} s  {figures}", flush=True)

    def large(self):
        """One engine after the other, as not all of them find room at once."""
        self.fill("floor", self.set("floor"))
        for engine in self.some(self.engines or EVENT_STORES):
            self.fill(engine, self.set(engine), "--crashed")
            for round in range(self.rounds):
                self.open(round, "W7 10 M", engine)
            for dir in (self.set(engine), self.dir / f"set-{engine}-crashed"):
                shutil.rmtree(dir, ignore_errors=True)

    # ---- a flipped bit ----

    def flipped(self):
        """Whether a replay notices that one bit of an event in the middle of a closed store is another."""
        for engine in self.some(ENGINES):
            dir = self.set(engine)
            if "bytes" in self.call(engine, "load", "--dir", dir, "--events", 50_000):
                flip(dir)
            figures = self.call(engine, "replay", "--dir", dir, "--seconds", 0)
            if "not_offered" not in figures:
                figures = {"notices": figures.get("error", CHANGED) != CHANGED}
            self.write(round=0, workload="flipped", engine=engine, floor={}, figures=figures)
            print(f"- a flipped bit  {engine:<12} {figures}", flush=True)
            shutil.rmtree(dir, ignore_errors=True)

    # ---- system calls ----

    def syscalls(self):
        """Of a commit of W1: what 200 more commits need in addition, divided by 200."""
        if not shutil.which("strace"):
            print("- no system calls: strace is not installed")
            return
        for engine in ["floor", *self.some(ENGINES)]:
            few, many = self.count(engine, 20), self.count(engine, 220)
            each = {name: round((many[name] - few.get(name, 0)) / 200, 2) for name in many}
            each = {name: count for name, count in each.items() if count >= 0.005}
            self.write(round=0, workload="syscalls", engine=engine, floor={}, figures={"calls": each})
            print(f"- system calls of a commit  {engine:<12} {each}", flush=True)

    def count(self, engine, commits):
        with tempfile.NamedTemporaryFile("r") as counted:
            strace = ["strace", "-f", "-c", "-o", counted.name, "-e", f"trace={CALLS}"]
            self.call(engine, "append", "--dir", self.dir / "run", "--commits", commits, "--seconds", 60, before=strace)
            rows = [line.split() for line in counted.read().splitlines()]
        return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[-1] in CALLS.split(",")}


def flip(dir):
    """In the file that has the most events."""
    path = max((path for path in dir.rglob("*") if path.is_file()), key=lambda path: path.read_bytes().count(MARK))
    content = bytearray(path.read_bytes())
    events = [found.end() for found in re.finditer(MARK, content)]
    content[events[len(events) // 2] + 50] ^= 1
    path.write_bytes(content)


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=HERE, check=True)
    told = subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=HERE)
    return pathlib.Path(json.loads(told)["target_directory"]) / "release" / "annals-peers"


# ---- what the table says of the machine ----

def about(dir, command, rounds, events):
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "machine": f"{os.cpu_count()} cores ({cpu.group(1) if cpu else platform.machine()}), {int(memory.group(1)) >> 20} GiB, "
        f"{file_system(dir)}, Linux {'.'.join(platform.release().split('.')[:2])}",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["run.py", *command]),
        "rounds": rounds,
        "events": events,
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


def file_system(dir):
    device = os.stat(dir).st_dev
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        source, place, kind, *_ = line.split()
        if os.path.ismount(place) and os.stat(place).st_dev == device and kind != "rootfs":
            name = os.path.basename(os.path.realpath(source))
            journal = any(pathlib.Path("/proc/fs/jbd2").glob(f"{name}-*"))
            journal = {True: " with a journal", False: " without a journal"}[journal] if kind == "ext4" else ""
            return kind + journal + (" on a loop device" if name.startswith("loop") else "")
    return "an unknown file system"


def versions():
    lock = (HERE / "Cargo.lock").read_text()
    crates = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    names = ["tephra", "umadb-core", "rusqlite", "redb", "fjall", "heed", "okaywal", "raft-engine"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {"annals": commit, **{name: crates[name] for name in names}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--dir")
    parser.add_argument("--results", default=HERE / "results.jsonl")
    parser.add_argument("--engines")
    parser.add_argument("--workloads")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--events", type=int)
    parser.add_argument("--wrap", default="")
    runner = Runner(parser.parse_args())
    try:
        runner.syscalls() if runner.plan == "syscalls" else runner.run()
    finally:
        shutil.rmtree(runner.dir, ignore_errors=True)
    return f"{runner.failed} runs failed: see the errors in the results" if runner.failed else 0


if __name__ == "__main__":
    sys.exit(main())
