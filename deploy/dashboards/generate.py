#!/usr/bin/env python3
"""Writes the Grafana dashboards of this folder. Every metric that a panel asks for is looked up in
docs/reference/metrics.md, which is written from the sources. `--check` writes nothing and ends with 1 where a file is old."""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "reference" / "metrics.md"
SOURCE = {"type": "prometheus", "uid": "${source}"}
INSTANCE = 'instance=~"$instance"'


def known():
    """Names as a scrape has them."""
    names = set()
    for name, kind in re.findall(r"^\| `(portcullis_\w+)` \| (\w+) \|", PAGE.read_text(), re.M):
        names |= {name + part for part in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def rate(metric, by, more=""):
    return f"sum by ({by}) (rate({metric}{{{INSTANCE}{more}}}[$__rate_interval]))"


def quantile(metric, q, by):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{{{INSTANCE}}}[$__rate_interval])))"


def now(metric, by="instance", how="max"):
    return f"{how} by ({by}) ({metric}{{{INSTANCE}}})"


# title, unit, what it tells, [(expression, legend)], kind
GATEWAY = ("Portcullis: gateway", [
    ("Calls", "reqps", "Calls a second, by route", [(rate("portcullis_requests_total", "route"), "{{route}}")], "timeseries"),
    ("Answers", "reqps", "Calls a second, by status of the answer", [(rate("portcullis_requests_total", "code"), "{{code}}")], "timeseries"),
    ("Time of a call", "s", "From its head to the end of the answer", [
        (quantile("portcullis_request_duration_seconds", 0.5, "route"), "p50 {{route}}"),
        (quantile("portcullis_request_duration_seconds", 0.99, "route"), "p99 {{route}}")], "timeseries"),
    ("Refused for load", "reqps", "What was shed, by reason", [(rate("portcullis_shed_total", "reason"), "{{reason}}")], "timeseries"),
    ("Overload", "none", "What workers give up: 0 nothing to 4 calls", [(now("portcullis_overload_step", "instance, worker"), "{{instance}} {{worker}}")], "timeseries"),
    ("How near a limit is", "percent", "Memory, descriptors, processor", [(now("portcullis_overload_pressure", "instance, of"), "{{instance}} {{of}}")], "timeseries"),
    ("Connections", "short", "Open connections of callers", [(now("portcullis_connections", "listener, state", "sum"), "{{listener}} {{state}}")], "timeseries"),
    ("Handshakes", "ops", "TLS handshakes, by result", [(rate("portcullis_handshakes_total", "result"), "{{result}}")], "timeseries"),
    ("Endpoints", "reqps", "Requests to endpoints, by what became of them", [(rate("portcullis_upstream_requests_total", "endpoint, result"), "{{endpoint}} {{result}}")], "timeseries"),
    ("Shut out", "none", "1 for an endpoint that takes no calls because it failed", [(now("portcullis_circuit_state", "cluster, endpoint"), "{{cluster}} {{endpoint}}")], "timeseries"),
    ("Queues", "short", "Calls that wait for a place at an endpoint", [(now("portcullis_upstream_queue_length", "cluster", "sum"), "{{cluster}}")], "timeseries"),
    ("Retries", "ops", "Further tries: sent, or refused by the budget", [(rate("portcullis_retries_total", "result"), "{{result}}")], "timeseries"),
])
DECISIONS = ("Portcullis: decisions", [
    ("Decisions", "ops", "By effect and reason", [(rate("portcullis_decisions_total", "effect, reason"), "{{effect}} {{reason}}")], "timeseries"),
    ("Denied", "ops", "Denials a second, by service", [(rate("portcullis_decisions_total", "service, reason", ',effect="deny"'), "{{service}} {{reason}}")], "timeseries"),
    ("Would be denied", "ops", "What observe mode or a shadow policy would deny", [(rate("portcullis_decisions_total", "service", ',would="deny"'), "{{service}}")], "timeseries"),
    ("Observed", "ops", "Decisions that are not carried out, by service", [(rate("portcullis_decisions_total", "service", ',mode="observe"'), "{{service}}")], "timeseries"),
    ("Judged again", "ops", "Running calls after a change, by cause and what became of them", [(rate("portcullis_rejudged_total", "cause, result"), "{{cause}} {{result}}")], "timeseries"),
    ("Refused before any policy", "ops", "By the rule that was broken", [(rate("portcullis_gate_refused_total", "class"), "{{class}}")], "timeseries"),
    ("Age of policies", "none", "0 the publisher was heard lately, 1 not, 2 calls are denied", [(now("portcullis_policy_stale"), "{{instance}}")], "timeseries"),
    ("Second judge", "ops", "Decisions that stock Cedar judged as well, and those where it differed", [
        (rate("portcullis_policy_oracle_checks_total", "instance"), "judged {{instance}}"),
        (rate("portcullis_policy_oracle_mismatch_total", "instance"), "differed {{instance}}")], "timeseries"),
])
LEDGER = ("Portcullis: decision log", [
    ("Records", "ops", "Written, by kind", [(rate("portcullis_ledger_records_total", "kind"), "{{kind}}")], "timeseries"),
    ("Lost", "short", "Records lost in the range shown, each covered by an exact gap", [
        (f"sum by (cause) (increase(portcullis_decision_log_dropped_total{{{INSTANCE}}}[$__range]))", "{{cause}}")], "stat"),
    ("Gaps", "short", "Declared in the range shown", [
        (f"sum by (cause, exact) (increase(portcullis_ledger_gaps_total{{{INSTANCE}}}[$__range]))", "{{cause}} exact {{exact}}")], "stat"),
    ("Time of a sync", "s", "How long group commits take", [
        (quantile("portcullis_ledger_commit_duration_seconds", 0.5, "instance"), "p50 {{instance}}"),
        (quantile("portcullis_ledger_commit_duration_seconds", 0.99, "instance"), "p99 {{instance}}")], "timeseries"),
    ("Waits for a signature", "s", "Age of the oldest record without a signed checkpoint", [(now("portcullis_ledger_checkpoint_age_seconds"), "{{instance}}")], "timeseries"),
    ("Covered", "short", "Records that the last checkpoint covers", [(now("portcullis_ledger_tree_size"), "{{instance}}")], "timeseries"),
    ("Size", "bytes", "All files", [(now("portcullis_ledger_bytes"), "{{instance}}")], "timeseries"),
    ("Damage", "short", "Ranges that cannot be read, records set aside, failed self checks", [
        (now("portcullis_ledger_damaged"), "damaged {{instance}}"),
        (now("portcullis_ledger_quarantined"), "set aside {{instance}}"),
        (now("portcullis_ledger_self_check_failed"), "self check {{instance}}")], "stat"),
    ("Silent enforcers", "short", "Neither closed nor heard of for 30 s", [(now("portcullis_ledger_streams_silent"), "{{instance}}")], "stat"),
    ("Reads", "ops", "Of the log, by call and result", [(rate("portcullis_decision_reads_total", "call, result"), "{{call}} {{result}}")], "timeseries"),
])
PROCESS = ("Portcullis: processes", [
    ("Ready", "none", "1 when every condition of readiness is met", [(now("portcullis_ready", how="min"), "{{instance}}")], "stat"),
    ("Versions", "none", "Processes by version", [(f"count by (version) (portcullis_build_info{{{INSTANCE}}})", "{{version}}")], "stat"),
    ("Left of SVIDs", "s", "Until the SVID of a role ends; it is renewed at half of its life", [
        (f"min by (instance, role) (portcullis_svid_expiry_timestamp_seconds{{{INSTANCE}}} > 0) - time()", "{{instance}} {{role}}")], "timeseries"),
    ("Left of keys", "s", "Until the active key of an authority ends", [
        (f"min by (instance, kind) (portcullis_ca_expiry_timestamp_seconds{{{INSTANCE}}}) - time()", "{{instance}} {{kind}}")], "timeseries"),
    ("Denied identities", "short", "Items of the deny set in force", [(now("portcullis_revocations"), "{{instance}}")], "timeseries"),
    ("Reloads", "short", "Of the configuration, in the range shown", [
        (f"sum by (result) (increase(portcullis_config_reloads_total{{{INSTANCE}}}[$__range]))", "{{result}}")], "stat"),
    ("Upgrades", "short", "In the range shown", [
        (f"sum by (result) (increase(portcullis_upgrades_total{{{INSTANCE}}}[$__range]))", "{{result}}")], "stat"),
    ("Panics", "short", "Contained in a task, in the range shown", [
        (f"sum by (instance) (increase(portcullis_panics_total{{{INSTANCE}}}[$__range]))", "{{instance}}")], "stat"),
    ("Trails and spans lost", "ops", "Because their reader could not keep up", [
        (rate("portcullis_trails_dropped_total", "instance"), "trails {{instance}}"),
        (rate("portcullis_spans_dropped_total", "instance"), "spans {{instance}}")], "timeseries"),
])
BOARDS = {"gateway": GATEWAY, "decisions": DECISIONS, "ledger": LEDGER, "processes": PROCESS}


def panel(number, title, unit, text, targets, kind):
    options = {"legend": {"displayMode": "list", "placement": "bottom"}} if kind == "timeseries" else {"reduceOptions": {"calcs": ["lastNotNull"]}}
    return {
        "id": number + 1, "type": kind, "title": title, "description": text, "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []}, "options": options,
        "targets": [{"refId": chr(65 + place), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
                    for place, (expression, legend) in enumerate(targets)],
    }


def board(name, title, panels):
    variable = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}
    instances = {"name": "instance", "type": "query", "label": "Instance", "datasource": SOURCE, "multi": True, "includeAll": True,
                 "allValue": ".*", "refresh": 2, "query": "label_values(portcullis_build_info, instance)",
                 "current": {"text": "All", "value": "$__all"}}
    return {
        "uid": f"portcullis-{name}", "title": title, "tags": ["portcullis"], "schemaVersion": 39, "editable": True,
        "time": {"from": "now-3h", "to": "now"}, "refresh": "30s", "templating": {"list": [variable, instances]},
        "panels": [panel(number, *told) for number, told in enumerate(panels)],
    }


def main():
    names, old = known(), []
    for name, (title, panels) in BOARDS.items():
        text = json.dumps(board(name, title, panels), indent=1) + "\n"
        unknown = set(re.findall(r"portcullis_\w+", text)) - names
        if unknown:
            sys.exit(f"{name}: no source registers {', '.join(sorted(unknown))}")
        file = HERE / f"{name}.json"
        if not file.exists() or file.read_text() != text:
            old.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if "--check" in sys.argv and old:
        sys.exit(f"old: {', '.join(old)}; run deploy/dashboards/generate.py")


if __name__ == "__main__":
    main()
