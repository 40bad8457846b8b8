#!/usr/bin/env python3
"""Runs the bench of the decision ledger, gives PostgreSQL the same records, and writes their part of docs/benchmarks.md.

`just bench-ledger` calls it; flags: --profile dist|release|dev, --records N, --peers N (records for sled and PostgreSQL), --dir
DIR, --busy (other work ran beside it: said in the part), --print (writes nothing). Without PostgreSQL its row says why.
"""

import argparse
import json
import os
import platform
import pwd
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import page
from policy import cpu, met

TABLE = """CREATE TABLE decision (id text, time timestamptz, principal text, action text, resource text, denied boolean, reason text,
leaf bytea); CREATE INDEX ON decision (principal, time); CREATE INDEX ON decision (time); CREATE INDEX ON decision (time) WHERE denied;"""
BATCH = 10_000


def bench(args, scratch):
    command = ["cargo", "bench", "--locked", "--profile", args.profile, "-p", "policies-decisions", "--bench", "ledger", "--"]
    command += ["--records", str(args.records), "--peers", str(args.peers), "--dir", str(scratch), "--profile", args.profile]
    done = subprocess.run(command, cwd=page.ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the bench ended with {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def programs():
    """Where PostgreSQL is, if it is."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else known[0] if known else None


class Postgres:
    """A server in a directory of its own, which nobody reaches but over its socket. It refuses to run as root."""

    def __init__(self, home, where):
        self.home, self.where = home, where
        self.as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.as_user:
            shutil.chown(home, "postgres", "postgres")

    def run(self, *words, text=None, wait=True):
        command = [*self.as_user, str(self.where / words[0]), *words[1:]]
        done = subprocess.run(command, input=text, cwd=self.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if wait else None)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]}: {done.stdout.strip().splitlines()[-1:]}")
        return done.stdout

    def __enter__(self):
        data = str(self.home / "data")
        self.run("initdb", "-D", data, "-A", "trust", "-U", "bench", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.home}' -c shared_buffers=256MB -c max_wal_size=4GB"
        self.run("pg_ctl", "-D", data, "-w", "-l", str(self.home / "log"), "-o", options, "start")
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "-D", str(self.home / "data"), "-m", "immediate", "stop")

    def sql(self, text):
        return self.run("psql", "-h", str(self.home), "-U", "bench", "-d", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1", text=text)


def copied(table):
    """The rows into PostgreSQL, in transactions of ten thousand, each synced."""
    where = programs()
    if where is None:
        return {"skipped": "PostgreSQL is not installed (apt-get install postgresql)"}
    if os.getuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall()):
        return {"skipped": "there is no user postgres to run it as"}
    with tempfile.TemporaryDirectory(prefix="portcullis-postgres-", dir=Path(table["file"]).parent.parent) as home, open(table["file"]) as rows:
        os.chmod(home, 0o755)
        server = Postgres(Path(home), where)
        try:
            with server:
                server.sql(TABLE)
                lines, spent = rows.readlines(), 0.0
                for at in range(0, len(lines), BATCH):
                    text = "COPY decision FROM STDIN;\n" + "".join(lines[at:at + BATCH]) + "\\.\n"
                    begun = time.monotonic()
                    server.sql(text)
                    spent += time.monotonic() - begun
                size = int(server.sql("SELECT pg_total_relation_size('decision');"))
                asked = f"SELECT leaf FROM decision WHERE principal = '{table['principal']}' ORDER BY time DESC LIMIT 100;"
                timed = server.sql("\\timing on\n" + asked * 9)
                times = [float(line.split()[1]) for line in timed.splitlines() if line.startswith("Time:")]
                version = server.sql("SHOW server_version;").split()[0]
        except (RuntimeError, OSError) as error:
            return {"skipped": str(error)}
    return {"records": len(lines), "per_s": len(lines) / spent, "bytes": size / len(lines), "by_principal_ms": statistics.median(times), "version": version}


def report(of, postgres, args):
    bytes_of, spent = of["bytes"], of["cpu_us"]
    millions = f"{of['records'] / 1e6:.2f} M records"
    lines = [
        "## The decision ledger", "",
        "Written by `just bench-ledger` (`policies/decisions/benches/ledger.rs`, `tests/load/ledger.py`).", "",
        f"- when: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {os.cpu_count()} x {cpu()}, kernel {platform.release()}; profile `{of['profile']}`"
        + ("; **beside other builds on the same cores**: rates are lower bounds, times upper ones" if args.busy else ""),
        f"- {millions} of gRPC calls from two lanes: 2,000 callers, 300 methods, one denial in a hundred, trace and versions in each; "
        "synced every 50 ms, checkpoints signed meanwhile",
        "- files are in the page cache when they are asked",
        "", f"| {millions} | measured | bar | |", "|---|---:|---:|---|",
    ]
    verify, crash, get = of["verify"], of["after_a_crash"], of["get"]
    rows = [
        ("durable records/s, tree on", f"{of['durable_per_s']:,.0f}", "> 150,000", of["durable_per_s"] > 150_000),
        ("CPU per record beside the worker", f"{sum(spent.values()):.2f} us", "<= 3 us", sum(spent.values()) <= 3),
        ("cost on the worker, per record (with dropping what it came in)", f"{of['fill_ns']:.0f} ns", "", None),
        ("disk per record, leaf and index", f"{bytes_of['leaf_and_index']:.1f} B", "< 80 B", bytes_of["leaf_and_index"] < 80),
        ("tiles per record", f"{bytes_of['tiles']:.1f} B", "", None),
        ("decision to signed checkpoint, median / worst", f"{of['checkpoint_ms']['p50']:,.0f} / {of['checkpoint_ms']['max']:,.0f} ms", "< 2 s", of["checkpoint_ms"]["max"] < 2000),
        (f"opening what a crash left at {crash['records']:,} records", f"{crash['ms']:,.0f} ms", "", None),
        ("opening after an orderly end", f"{of['in_order_ms']:,.0f} ms", "", None),
        ("get by id, p50 / p99", f"{get['p50_ms']:.1f} / {get['p99_ms']:.1f} ms", "< 20 ms", get["p99_ms"] < 20),
        (f"the calls of a rare caller ({of['by_principal']['rare']['rows']} rows), median", f"{of['by_principal']['rare']['p50_ms']:.1f} ms", "", None),
        (f"the newest {of['by_principal']['common']['rows']} of a common caller, median", f"{of['by_principal']['common']['p50_ms']:.1f} ms", "", None),
        ("durable p99 alone / beside four questions that read everything", f"{of['readers']['durable_p99_ms']['alone']:.1f} / {of['readers']['durable_p99_ms']['beside']:.1f} ms",
         "<= 2 x", of["readers"]["durable_p99_ms"]["beside"] <= 2 * of["readers"]["durable_p99_ms"]["alone"]),
        ("memory of those four questions together", f"{of['readers']['memory_mib']} MiB", "< 256 MiB each", of["readers"]["memory_mib"] < 1024),
        ("verify offline, per core", f"{verify['per_core_s']:,.0f} records/s", ">= 1,000,000", verify["per_core_s"] >= 1e6),
        ("largest memory of the whole process", f"{of['memory_mib']} MiB", "", None),
    ]
    lines += [f"| {name} | {value} | {bar} | {'' if is_met is None else met(is_met)} |" for name, value, bar, is_met in rows]
    lines += ["", "CPU per record by thread: " + ", ".join(f"{name} {value:.2f} us" for name, value in spent.items()) + ".", "",
              f"The same records elsewhere, {of['sled']['records']:,} of them, with what they are asked by:", "",
              "| store | durable records/s | bytes per record | newest 100 of a caller |", "|---|---:|---:|---:|",
              f"| this ledger, with proofs | {of['durable_per_s']:,.0f} | {bytes_of['leaf_and_index'] + bytes_of['tiles']:.0f} | {of['by_principal']['common']['p50_ms']:.1f} ms |",
              f"| sled, two indexes, flushed every 50 ms | {of['sled']['per_s']:,.0f} | {of['sled']['bytes']:.0f} | {of['sled']['by_principal_ms']:.1f} ms |"]
    if "skipped" in postgres:
        lines.append(f"| PostgreSQL | skipped: {postgres['skipped']} | | |")
    else:
        lines.append(f"| PostgreSQL {postgres['version']}, COPY of 10,000, three indexes | {postgres['per_s']:,.0f} | {postgres['bytes']:.0f} | {postgres['by_principal_ms']:.1f} ms |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="dist")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--peers", type=int, default=200_000)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--print", action="store_true")
    args = parser.parse_args()
    scratch = Path(args.dir) / "portcullis-bench-ledger"
    of = bench(args, scratch)
    postgres = copied(of["table"])
    shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps({**of, "postgres": postgres}))
    lines = report(of, postgres, args)
    if args.print:
        print("\n".join(lines))
    else:
        page.write("ledger", lines)


if __name__ == "__main__":
    main()
