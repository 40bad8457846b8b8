#!/usr/bin/env python3
"""Runs the benches of policies/engine and writes their part of docs/benchmarks.md, with data and chart.

`just bench-policy` calls it; flags: --profile dist|release, --quick, --sizes 10,100, --print (writes nothing). Ends with 1
when ours and stock Cedar disagree on a request.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import page

LARGEST = "10,000 policies, 6,071 entities"


def bench(name, args):
    command = ["cargo", "bench", "--locked", "--profile", args.profile, "-p", "policies-engine", "--bench", name, "--", "--sizes", args.sizes]
    command += ["--quick"] if args.quick else []
    done = subprocess.run(command, cwd=page.ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench {name} ended with {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def span(ns):
    """Nanoseconds for people: three digits that count."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            value = ns / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}" if value >= 10 else f"{value:.2f} {unit}"
    return f"{ns:.0f} ns"


def mib(size):
    return f"{size / 2**20:.1f} MiB"


def met(is_met):
    return "met" if is_met else "missed"


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def report(timed, counted):
    largest = timed["sizes"][-1]
    allocations = {row["policies"]: row for row in counted["sizes"]}
    of_largest, memory, changes = allocations[largest["policies"]], counted["memory"], timed["changes"]
    lines = [
        "## Policy: a decision beside stock Cedar", "",
        "Written by `just bench-policy` (`policies/engine/benches/authorize.rs`, `allocations.rs`, `tests/load/policy.py`).", "",
        f"- when: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {os.cpu_count()} x {cpu()}, kernel {platform.release()}; "
        f"profile `{timed['profile']}`, Cedar {timed['cedar']}",
        f"- ours: view over the call, verdict, one reading of the clock, a filled `DecisionRecord` in a ring; {largest['requests']} requests over "
        "2,000 warm (principal, action, resource) triples, facts varied",
        "- p50: median of batches of 100 calls; p99: calls timed one by one, less the median cost of reading the clock twice",
        "- stock: `Authorizer::is_authorized` over all policies and entities, which are prebuilt; `prebuilt` has request and context made before, "
        "`built` makes them in the measured time",
        f"- the same run compared verdict, reason, determining policies and errors of {largest['verified']} requests per size with stock Cedar: "
        f"{sum(row['different'] for row in timed['sizes'])} differences",
        "", "| policies | ours p50 | p99 | allocations | stock p50, prebuilt | p99 | allocations | stock p50, built | allocations | stock / ours |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in timed["sizes"]:
        count = allocations[row["policies"]]
        ratio = row["stock_prebuilt"]["p50_ns"] / row["ours"]["p50_ns"]
        lines.append(
            f"| {row['policies']:,} | {span(row['ours']['p50_ns'])} | {span(row['ours']['p99_ns'])} | {count['ours']:.2f} "
            f"| {span(row['stock_prebuilt']['p50_ns'])} | {span(row['stock_prebuilt']['p99_ns'])} | {count['stock_prebuilt']:,} "
            f"| {span(row['stock_built']['p50_ns'])} | {count['stock_built']:,} | {ratio:,.0f} |")
    ways = largest["evaluated"]
    lines += ["", f"Of {largest['requests']} requests at {largest['policies']:,} policies, {largest['allowed']} are allowed; {ways['constant']} are decided by "
              f"scopes alone, {ways['compiled']} by compiled conditions, {ways['fallback']} by stock Cedar over the remaining candidates.",
              "", f"| {LARGEST} | measured | bar | |", "|---|---:|---:|---|"]
    fallback = timed["fallback"]
    bars = [
        ("decision p50", span(largest["ours"]["p50_ns"]), "< 250 ns", largest["ours"]["p50_ns"] < 250),
        ("decision p99", span(largest["ours"]["p99_ns"]), "< 1 us", largest["ours"]["p99_ns"] < 1_000),
        ("allocations on a hit, worst call", f"{of_largest['ours_worst']}", "0", of_largest["ours_worst"] == 0),
        ("first call of a new triple, p50 / p99", f"{span(largest['first']['p50_ns'])} / {span(largest['first']['p99_ns'])}", "< 100 us", largest["first"]["p99_ns"] < 100_000),
        ("cold start to first decision", span(changes["cold_start_ns"]), "< 1 s", changes["cold_start_ns"] < 1e9),
        ("change of 10 policies", span(changes["ten_policies_ns"]), "< 5 ms", changes["ten_policies_ns"] < 5e6),
        ("change of 10 entities", span(changes["ten_entities_ns"]), "", None),
        (f"memory: snapshot / {memory['plans']:,} plans", f"{mib(memory['snapshot_bytes'])} / {mib(memory['plans_bytes'])}", "<= 64 MiB",
         memory["snapshot_bytes"] + memory["plans_bytes"] <= 64 * 2**20),
        ("memory: stock policies and entities", mib(memory["stock_bytes"]), "", None),
        ("two workers, x one", f"{timed['threads']['factor']:.2f}", ">= 1.8", timed["threads"]["factor"] >= 1.8),
        ("decisions a second, one worker", f"{timed['threads']['one_per_second']:,}", "", None),
    ]
    if fallback:
        bars.insert(4, ("one policy of the slice falls back, p50 / p99", f"{span(fallback['p50_ns'])} / {span(fallback['p99_ns'])}", "< 100 us", fallback["p99_ns"] < 100_000))
    lines += [f"| {name} | {value} | {bar} | {'' if is_met is None else met(is_met)} |" for name, value, bar, is_met in bars]
    lines += ["", "![Time of a decision by number of policies](benchmarks-policy.svg)"]
    return lines


def chart(timed):
    """Time of a decision over the number of policies, both axes logarithmic, drawn by hand so that nothing has to be installed."""
    rows = timed["sizes"]
    series = [("stock Cedar, p50", "#7b8794", [row["stock_prebuilt"]["p50_ns"] for row in rows]),
              ("ours, p99", "#7fbfa4", [row["ours"]["p99_ns"] for row in rows]),
              ("ours, p50", "#0b6e4f", [row["ours"]["p50_ns"] for row in rows])]
    low, high = 1, 8  # 10 ns to 100 ms
    sizes = [row["policies"] for row in rows]
    left, top, width, height = 90, 30, 430, 300
    first, last = math.log10(sizes[0]), math.log10(max(sizes[-1], sizes[0] * 10))

    def x(size):
        return left + (math.log10(size) - first) / (last - first) * width

    def y(ns):
        return top + (high - math.log10(max(ns, 1))) / (high - low) * height

    out = []
    for power in range(low, high + 1):
        at = y(10**power)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.0f}" y2="{at:.0f}" stroke="#e4e7eb"/><text x="{left - 8}" y="{at + 4:.0f}" text-anchor="end">{span(10**power)}</text>')
    for size in sizes:
        out.append(f'<text x="{x(size):.0f}" y="{top + height + 20}" text-anchor="middle">{size:,}</text>')
    out.append(f'<text x="{left + width / 2:.0f}" y="{top + height + 42}" text-anchor="middle">policies</text>')
    for name, colour, values in series:
        points = " ".join(f"{x(size):.0f},{y(ns):.0f}" for size, ns in zip(sizes, values))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        out += [f'<circle cx="{x(size):.0f}" cy="{y(ns):.0f}" r="3.5" fill="{colour}"/>' for size, ns in zip(sizes, values)]
        out.append(f'<text x="{left + width + 8}" y="{y(values[-1]) + 4:.0f}" fill="{colour}">{name} {span(values[-1])}</text>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="720" height="390" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
            '<text x="90" y="18" font-weight="bold" font-size="13">Time of a decision, record filled</text>' + "".join(out) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="dist")
    parser.add_argument("--sizes", default="10,100,1000,10000")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions and of the comparisons")
    parser.add_argument("--print", action="store_true", help="print only, write nothing")
    args = parser.parse_args()
    timed, counted = bench("authorize", args), bench("allocations", args)
    lines = report(timed, counted)
    print("\n".join(lines))
    if args.print:
        return
    page.write("policy", lines)
    about = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": cpu(), "cores": os.cpu_count(), "kernel": platform.release(), "quick": args.quick}
    (page.DOCS / "benchmarks-policy.json").write_text(json.dumps({"about": about, "times": timed, "allocations": counted}, indent=1) + "\n")
    (page.DOCS / "benchmarks-policy.svg").write_text(chart(timed))


if __name__ == "__main__":
    sys.exit(main())
