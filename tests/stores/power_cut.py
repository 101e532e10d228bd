#!/usr/bin/env python3
"""Whether `store serve` survives power cuts: its disk is rebuilt as each of many cuts may leave it, and served again.

    power_cut.py [--build release] [--cuts 100] [--seed N]

strace writes down every call by which the store, used by four clients at once, changes its directory, with all bytes. Then
the calls are followed one by one on a model disk (power/disk.py), which knows what is synced. At a place in between, the power
goes: of what was not synced a subset is lost, by seed. What is left is written down as a directory and served by the same
program, which has to start by itself, to have everything that was answered until then, to have nothing in between of what was
not, and to let open uploads be completed (power/history.py); and `store check` has to find nothing. After each answer and each
sync there is a cut that takes all it can, after each change of names one that leaves nothing but that change; others are
anywhere. At last it has to be noticed that a store which does not wait for the disk does not survive.

Needs strace, boto3, and the store built. Exits 1 at the first cut that is not survived, with the directory as the cut left it
and the trace, which no second run repeats.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

from botocore.exceptions import BotoCoreError, ClientError

from power import history
from power.disk import WATCHED, Cut, Disk

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MOST = 16 << 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="debug", choices=["debug", "release"], help="which store (%(default)s)")
    parser.add_argument("--cuts", type=int, default=100, help="how often the power goes at random (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="decides where, and what is lost")
    arguments = parser.parse_args()
    program = TARGET / arguments.build / "store"
    print(f"seed {arguments.seed}", flush=True)
    # In memory, where there is some: the disk that counts is the model's.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="power-cut-", dir=memory) as name:
        try:
            print(f"ok {try_cuts(pathlib.Path(name), program, arguments)}", flush=True)
        except NotSurvived as cut:
            sys.exit(f"NOT SURVIVED: {cut}\nas left, and the trace: {keep(cut.left)}")
    with tempfile.TemporaryDirectory(prefix="power-cut-", dir=memory) as name:
        try:
            survived = try_cuts(pathlib.Path(name), program, arguments, "--no-sync")
        except NotSurvived:
            print("ok with --no-sync it is noticed that a cut is not survived")
        else:
            sys.exit(f"with --no-sync {survived}: this looks at nothing")


class NotSurvived(Exception):
    """Which cut, and what is wrong after it."""

    def __init__(self, what, left):
        super().__init__(what)
        self.left = left


def keep(left):
    kept = pathlib.Path(tempfile.mkdtemp(prefix="power-cut-as-left-"))
    shutil.copytree(left, kept, dirs_exist_ok=True)
    shutil.copy(left.parent / "trace", kept)
    return kept


def try_cuts(home, program, arguments, *options):
    """Records a new store and cuts its power; how often."""
    (home / "top").mkdir()
    told = record(home, program, options)
    lines = (home / "trace").read_bytes().splitlines()
    places = survey(lines, home / "top", told)
    cuts = choose(places, arguments.cuts, random.Random(arguments.seed))
    survived = run(home, program, lines, cuts, told)
    return f"{survived} power cuts were survived, at {len({place for place, *_ in cuts})} of {len(places)} places"


def record(home, program, options):
    strace = ["strace", "-f", "-y", "-s", str(MOST), "-o", home / "trace", "-e", f"trace={WATCHED}"]
    with serve(home / "top" / "dir", program, home / "log", strace, options) as endpoint:
        return history.write(endpoint)


@contextlib.contextmanager
def serve(directory, program, log, before=(), options=()):
    """A store until the end of the block: its address."""
    environment = {**os.environ, "STORE_ACCESS_KEY_ID": history.KEY, "STORE_SECRET_ACCESS_KEY": history.SECRET}
    command = [*before, program, "serve", directory, "--listen", "127.0.0.1:0", *options]
    with open(log, "w") as file:
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True, process_group=0)
        try:
            endpoint = re.search(r"http://[^\s'\"]+", running.stdout.readline())
            if not endpoint:
                raise history.Wrong(f"the store did not start: {pathlib.Path(log).read_text()}")
            yield endpoint.group()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, 15)
            running.wait(30)
            running.stdout.close()


def survey(lines, top, told):
    """The places after lines that change something, and what they change."""
    disk = Disk(top)
    places = [(place, changed) for place, line in enumerate(lines) if (changed := disk.follow(line))]
    missing = told.requests() - set(disk.answered)
    if missing:
        sys.exit(f"{len(missing)} answers are not in the trace: this looks at something else")
    return places


def choose(places, count, by):
    """Where the power goes and how much is kept of what waits, none for nothing but the newest: [(place, share, seed)] in order."""
    cuts = [(place, 0, 0) for place, changed in places if changed in ("answers", "synced")]
    cuts += [(place, None, 0) for place, changed in places if changed == "names"]
    for _ in range(count):
        cuts.append((by.choice(places)[0], by.choice([0.1, 0.5, 0.9, 1]), by.randrange(1 << 32)))
    return sorted(cuts, key=lambda cut: cut[0])


def run(home, program, lines, cuts, told):
    disk, survived = Disk(home / "top"), 0
    waiting = iter(cuts)
    next_cut = next(waiting, None)
    # As many at once as there are processors; the model waits for them, so that not all of them lie on the disk.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = []
        for place, line in enumerate(lines):
            disk.follow(line)
            while next_cut and next_cut[0] == place:
                left = home / f"cut-{place}-{next_cut[1]}-{next_cut[2]}"
                disk.leave(left, Cut(next_cut[2], next_cut[1], disk.time))
                running.append((next_cut, left, pool.submit(survive, left, program, told, set(disk.answered))))
                next_cut = next(waiting, None)
                if len(running) > os.cpu_count():
                    survived += ended(*running.pop(0))
        for one in running:
            survived += ended(*one)
    return survived


def survive(left, program, told, answered):
    """Serves what was left; what is wrong with it."""
    directory = left / "dir"
    shutil.copytree(left, left.with_name(f"{left.name}-as-left"))
    try:
        with serve(directory, program, left / "log") as endpoint:
            history.judge(history.client(endpoint), told, answered)
    except (history.Wrong, ClientError, BotoCoreError) as wrong:
        return f"{wrong}\n{(left / 'log').read_text()}"
    checked = subprocess.run([program, "check", directory], capture_output=True, text=True)
    if checked.returncode:
        return f"store check: {checked.stdout}{checked.stderr}"
    return None


def ended(cut, left, running):
    wrong, as_left = running.result(), left.with_name(f"{left.name}-as-left")
    if wrong:
        place, share, seed = cut
        share = "the newest" if share is None else share
        raise NotSurvived(f"the cut after line {place}, which kept {share} of what waited (seed {seed}): {wrong}", as_left)
    shutil.rmtree(left)
    shutil.rmtree(as_left)
    return 1


if __name__ == "__main__":
    main()
