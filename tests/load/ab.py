#!/usr/bin/env python3
"""Two or more builds of ours in turn, nginx and HAProxy beside them: CPU per call, by thread, user and system apart.

    python3 tests/load/ab.py OLD NEW --rows h1,h2 --rounds 4 --requests 40000

For the question whether a change pays: builds alternate within each round, so that what the machine does besides hits all
of them. Prints only. The rows and the peers are those of `bench.py`.
"""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import bench


def threads(pid):
    """User and system ticks of each thread name of a process and those below it."""
    ticks = {}
    for one in bench.tree(pid):
        for task in os.listdir(f"/proc/{one}/task"):
            head, rest = Path(f"/proc/{one}/task/{task}/stat").read_text().rsplit(")", 1)
            fields, name = rest.split(), head.split("(", 1)[1]
            user, system = ticks.get(name, (0, 0))
            ticks[name] = (user + int(fields[11]), system + int(fields[12]))
    return ticks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+")
    parser.add_argument("--rows", default="h1,h2")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--oha", default=bench.OHA)
    parser.add_argument("--h3load", default=bench.H3LOAD)
    args = parser.parse_args()
    each = 1e6 / bench.TICK / (args.requests * args.rounds)
    with contextlib.ExitStack() as stack:
        sides = []
        for number, build in enumerate(args.builds):
            work = stack.enter_context(tempfile.TemporaryDirectory(prefix="portcullis-ab-"))
            side = bench.Bench(argparse.Namespace(**{**vars(args), "binary": build}), Path(work))
            stack.callback(side.stop)
            side.run_upstream()
            side.run_portcullis()
            side.peers = {build: side.peers["portcullis"]}
            if number == 0:
                side.run_nginx()
                side.run_haproxy()
            sides.append(side)
        for row in args.rows.split(","):
            spent = {}
            for round in range(args.rounds + 1):
                for side in sides:
                    for name, (pid, _) in side.peers.items():
                        before = threads(pid)
                        side.load(name, row, args.requests)
                        if round == 0:
                            continue
                        for thread, (user, system) in threads(pid).items():
                            had = before.get(thread, (0, 0))
                            so_far = spent.setdefault(name, {}).setdefault(thread, [0, 0])
                            so_far[0] += user - had[0]
                            so_far[1] += system - had[1]
            for name, of in spent.items():
                total = sum(map(sum, of.values())) * each
                parts = ", ".join(f"{thread} {user * each:.2f} + {system * each:.2f}" for thread, (user, system) in of.items() if user + system)
                print(f"{row} {name}: {total:.2f} us ({parts})", flush=True)


if __name__ == "__main__":
    main()
