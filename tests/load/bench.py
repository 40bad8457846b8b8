#!/usr/bin/env python3
"""Ours beside nginx, HAProxy and Envoy: CPU per request of the proxy, same upstream, same load, peers alternated.

Run by `just bench`, that is `tests/load/run`. Writes docs/benchmarks.md, docs/benchmarks.json and docs/benchmarks.svg. Method: dataplane BM-01
to BM-05: CPU is utime + stime of the proxy's processes from /proc before and after exactly N requests; rows alternate
within each round; the first round is discarded; medians of the rest. Only loopback is used.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

ROOT = Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
OHA, H3LOAD = (shutil.which(name) or str(ROOT / "target" / "peers" / "bin" / name) for name in ("oha", "h3load"))
BODY = "x" * 64
ROWS = {
    "h1": ("HTTP/1.1, 64 connections", ["-c", "64"], "bench"),
    "h2": ("HTTP/2, 16 connections x 10 streams", ["--http2", "-c", "16", "-p", "10"], "bench"),
    "h1-16k": ("HTTP/1.1, 64 connections, answers of 16 KiB", ["-c", "64"], "16k"),
    "h2-16k": ("HTTP/2, 8 connections x 4 streams, answers of 16 KiB", ["--http2", "-c", "8", "-p", "4"], "16k"),
    "h2-1m": ("HTTP/2, 8 connections x 4 streams, answers of 1 MiB", ["--http2", "-c", "8", "-p", "4"], "1m"),
    "grpc": ("gRPC, unary calls, HTTP/2 on both sides, 16 connections x 10 streams", ["--http2", "-c", "16", "-p", "10"], "bench.Echo/Say"),
    "h3": ("HTTP/3, 16 connections x 10 streams", ["16", "10"], "bench"),
    "handshake": ("mTLS handshake + one request", ["-c", "8", "--disable-keepalive"], "bench"),
}


class Failed(Exception):
    """A row of a proxy in which not every call was answered as it must be: it is no figure."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode} before it listened")
        with socket.socket() as s:
            s.settimeout(0.2)
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args[0]} does not listen on {port}")


def tree(pid):
    """The process and all below it."""
    pids, found = [pid], []
    while pids:
        one = pids.pop()
        found.append(one)
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                pids += [int(p) for p in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
        except FileNotFoundError:
            pass
    return found


def cpu_seconds(pid):
    ticks = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def rss_mib(pid):
    kib = 0
    for one in tree(pid):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                kib += int(line.split()[1])
    return kib / 1024


class Bench:
    def __init__(self, args, work):
        self.args, self.work, self.processes = args, work, []
        self.upstream, self.grpc = free_port(), free_port()
        self.peers = {}
        # Ports of those that speak HTTP/3 with client certificates.
        self.quic = {}

    def start(self, name, command, port, **kwargs):
        log = open(self.work / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, **kwargs)
        self.processes.append(process)
        try:
            wait_port(port, process)
        except SystemExit as error:
            sys.stderr.write((self.work / f"{name}.log").read_text(errors="replace")[-2000:])
            raise error
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    # ---- the upstream and the four proxies

    def run_upstream(self):
        conf = self.work / "upstream.conf"
        files = self.work / "files"
        files.mkdir()
        (files / "16k").write_bytes(b"x" * (16 << 10))
        (files / "1m").write_bytes(b"x" * (1 << 20))
        conf.write_text(f"""
worker_processes 1; daemon off; error_log {self.work}/upstream.err; pid {self.work}/upstream.pid; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  server {{ listen 127.0.0.1:{self.upstream} backlog=4096; default_type text/plain; root {files}; sendfile on;
    location = /bench {{ return 200 "{BODY}"; }} location / {{ }} }}
  server {{ listen 127.0.0.1:{self.grpc} http2 backlog=4096; default_type application/grpc; add_header grpc-status 0;
    http2_max_concurrent_streams 1024; location / {{ return 200 ""; }} }} }}
""")
        self.start("upstream", ["nginx", "-c", str(conf), "-p", str(self.work)], self.upstream)

    def run_portcullis(self):
        port, quic, uid = free_port(), free_port(), os.getuid()
        dir = self.work / "portcullis"
        (dir / "policies").mkdir(parents=True)
        rules = [f'@id("other-{n}")\npermit (principal == Workload::"spiffe://example.org/other-{n}", action in Action::"http:read", resource == Route::"bench");'
                 for n in range(self.args.policies - 2)]
        rules.append('@id("bench")\npermit (principal == Workload::"spiffe://example.org/bench", action in Action::"http:read", resource == Route::"bench");')
        rules.append('@id("say")\npermit (principal == Workload::"spiffe://example.org/bench", action == Action::"grpc", resource == Method::"bench.Echo/Say");')
        for start in range(0, len(rules), 200):
            (dir / "policies" / f"p{start:05}.cedar").write_text("\n\n".join(rules[start:start + 200]) + "\n")
        (dir / "portcullis.toml").write_text(f"""
version = 1
trust_domain = "example.org"
data_dir = "{dir}/data"
[ca]
[[ca.entry]]
spiffe_id = "spiffe://example.org/bench"
selectors = ["unix:uid:{uid}"]
dns_names = ["localhost"]
[agent]
socket = "unix://{dir}/workload.sock"
[policies]
dir = "{dir}/policies"
[enforcer]
id = "spiffe://example.org/gateway"
dns_names = ["localhost"]
workers = {self.args.workers}
[[enforcer.listener]]
name = "bench"
bind = ["tcp://127.0.0.1:{port}"]
max_connections = 20000
max_connections_per_source = 20000
max_connections_per_identity = 20000
idle_timeout = "10m"
[[enforcer.listener]]
name = "h3"
bind = ["quic://127.0.0.1:{quic}"]
[[enforcer.service]]
name = "bench"
[[enforcer.route]]
name = "bench"
service = "bench"
match = {{ path = "/" }}
to = ["http://127.0.0.1:{self.upstream}"]
[[enforcer.service]]
name = "echo"
methods = ["bench.Echo/Say"]
[[enforcer.route]]
name = "echo"
service = "echo"
match = {{ grpc = "bench.Echo/*" }}
to = ["h2c://127.0.0.1:{self.grpc}"]
[admin]
listen = []
log = "error"
""")
        binary = self.args.binary
        process = self.start("portcullis", [binary, "run", "-c", str(dir / "portcullis.toml")], port)
        subprocess.run([binary, "svid", "write", "--once", "--dir", str(self.work / "tls"), "--socket", f"unix://{dir}/workload.sock"],
                       check=True, stdout=subprocess.DEVNULL)
        tls = self.work / "tls"
        (tls / "combined.pem").write_text((tls / "svid.pem").read_text() + (tls / "svid.key").read_text())
        self.peers["portcullis"], self.quic["portcullis"] = (process.pid, port), quic

    def run_nginx(self):
        port, tls, conf = free_port(), self.work / "tls", self.work / "nginx.conf"
        conf.write_text(f"""
worker_processes {self.args.workers}; daemon off; error_log {self.work}/nginx.err; pid {self.work}/nginx.pid;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  upstream up {{ server 127.0.0.1:{self.upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_certificate {tls}/svid.pem; ssl_certificate_key {tls}/svid.key; ssl_client_certificate {tls}/bundle.pem;
    ssl_verify_client on; ssl_verify_depth 3; ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off;
    http2_max_concurrent_streams 256;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location /bench.Echo/ {{ grpc_pass grpc://echo; }} }}
  upstream echo {{ server 127.0.0.1:{self.grpc}; keepalive 128; keepalive_requests 1000000000; }} }}
""")
        process = self.start("nginx", ["nginx", "-c", str(conf), "-p", str(self.work)], port)
        self.peers["nginx"] = (process.pid, port)

    def run_haproxy(self):
        port, tls, conf = free_port(), self.work / "tls", self.work / "haproxy.cfg"
        conf.write_text(f"""
global
  nbthread {self.args.workers}
  maxconn 9500
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend f
  bind 127.0.0.1:{port} ssl crt {tls}/combined.pem ca-file {tls}/bundle.pem verify required alpn h2,http/1.1
  use_backend g if {{ path_beg /bench.Echo/ }}
  default_backend b
backend g
  server s 127.0.0.1:{self.grpc} proto h2 pool-max-conn 256
backend b
  server s 127.0.0.1:{self.upstream} pool-max-conn 256
""")
        process = self.start("haproxy", ["haproxy", "-f", str(conf)], port)
        self.peers["haproxy"] = (process.pid, port)

    def run_envoy(self):
        port, quic, tls, conf = free_port(), free_port(), self.work / "tls", self.work / "envoy.yaml"
        common = f"""
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
            tls_certificates: [{{certificate_chain: {{filename: {tls}/svid.pem}}, private_key: {{filename: {tls}/svid.key}}}}]
            validation_context: {{trusted_ca: {{filename: {tls}/bundle.pem}}}}"""
        hcm = """
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: "/bench.Echo/"}, route: {cluster: echo}}, {match: {prefix: "/"}, route: {cluster: up}}]}]
          http_filters:
          - name: rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  bench:
                    permissions: [{or_rules: {rules: [{header: {name: ":method", string_match: {exact: GET}}}, {url_path: {path: {prefix: "/bench.Echo/"}}}]}}]
                    principals: [{authenticated: {principal_name: {exact: "spiffe://example.org/bench"}}}]
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}"""
        conf.write_text(f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
          common_tls_context:
            alpn_protocols: [h2, http/1.1]{common}{hcm}
          http2_protocol_options: {{max_concurrent_streams: 256}}
  - address: {{socket_address: {{protocol: UDP, address: 127.0.0.1, port_value: {quic}}}}}
    udp_listener_config: {{quic_options: {{}}, downstream_socket_config: {{prefer_gro: true}}}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.quic
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
           require_client_certificate: true
           disable_stateless_session_resumption: true
           common_tls_context:{common}{hcm}
          codec_type: HTTP3
          http3_protocol_options: {{}}
  clusters:
  - name: up
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {self.upstream}}}}}}}}}]}}]
  - name: echo
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: echo
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {self.grpc}}}}}}}}}]}}]
""")
        process = self.start("envoy", ["envoy", "-c", str(conf), "--concurrency", str(self.args.workers), "--disable-hot-restart", "-l", "error"], port)
        self.peers["envoy"], self.quic["envoy"] = (process.pid, port), quic

    # ---- load

    def load(self, name, row, requests):
        """So many calls of a row at a proxy. Raises `Failed`, which names both, when one of them was not answered 200."""
        port = self.quic[name] if row == "h3" else self.peers[name][1]
        tls = self.work / "tls"
        command = [self.args.oha, "--no-tui", "--output-format", "json", "-n", str(requests), "--worker-threads", "1",
                   "--cacert", str(tls / "bundle.pem"), "--cert", str(tls / "svid.pem"), "--key", str(tls / "svid.key")]
        _, flags, path = ROWS[row]
        if row == "h3":
            command = [self.args.h3load, f"127.0.0.1:{port}", str(tls), f"/{path}", str(requests)]
        else:
            if row == "grpc":
                message = self.work / "message"
                message.write_bytes(bytes(5))  # one empty message
                flags = flags + ["-m", "POST", "-T", "application/grpc", "-H", "te: trailers", "-D", str(message)]
            flags = flags + [f"https://localhost:{port}/{path}"]
        where = f"{name}, {ROWS[row][0]}"
        try:
            done = subprocess.run(command + flags, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{where}: not over after {late.timeout:.0f} s") from late
        if done.returncode != 0:
            raise Failed(f"{where}: {' '.join(done.stderr.split())[-300:] or 'the load generator failed'}")
        answer = json.loads(done.stdout)
        statuses = answer["statusCodeDistribution"]
        if statuses != {"200": requests}:
            errors = answer.get("errorDistribution") or {}
            raise Failed(f"{where}: of {requests} calls {statuses.get('200', 0)} were answered 200; others {statuses}, errors {errors}")
        return answer

    def cpu(self, rows, requests, rounds):
        """CPU of our own process per call, microseconds, median of the rounds after the first."""
        pid, _ = self.peers["portcullis"]
        spent = {row: [] for row in rows}
        for round in range(rounds + 1):
            for row in rows:
                before = cpu_seconds(pid)
                self.load("portcullis", row, requests)
                spent[row].append((cpu_seconds(pid) - before) / requests * 1e6)
        return {row: statistics.median(cells[1:]) for row, cells in spent.items()}

    def idle(self):
        """RSS at rest, and what each of many connections adds that has had one request and waits for the next."""
        tls = self.work / "tls"
        context = ssl.create_default_context(cafile=tls / "bundle.pem")
        context.load_cert_chain(tls / "svid.pem", tls / "svid.key")
        rest, each = {}, {}
        for name, (pid, port) in self.peers.items():
            before, held = rss_mib(pid), []
            for nth in range(self.args.idle):
                plain = socket.create_connection(("127.0.0.1", port))
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                held.append(context.wrap_socket(plain, server_hostname="localhost"))
                held[-1].sendall(b"GET /bench HTTP/1.1\r\nhost: localhost\r\n\r\n")
                if not held[-1].recv(4096).startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"connection {nth} to {name} was not answered")
            time.sleep(5)
            rest[name], each[name] = before, (rss_mib(pid) - before) * 1024 / max(self.args.idle, 1)
            for connection in held:
                connection.close()
            print(f"idle {name}: {before:.1f} MiB, {each[name]:.1f} KiB each", file=sys.stderr)
        return rest, each

    def measure(self):
        results = {}
        rest, each = self.idle()
        bulk = self.args.requests // 5
        rows = [("h1", self.args.requests), ("h2", self.args.requests), ("grpc", self.args.requests // 2), ("h1-16k", bulk), ("h2-16k", bulk),
                ("h2-1m", bulk // 50), ("handshake", self.args.handshakes)]
        if os.path.exists(self.args.h3load):
            rows.insert(2, ("h3", self.args.requests // 2))
        else:
            print("absent: h3load, so there is no row for HTTP/3", file=sys.stderr)
        for row, requests in [row for row in rows if row[0] in self.args.rows.split(",")]:
            for round in range(self.args.rounds + 1):
                for name, (pid, _) in self.peers.items():
                    if (row == "h3" and name not in self.quic) or "failed" in results.get(row, {}).get(name, {}):
                        continue
                    before = cpu_seconds(pid)
                    try:
                        answer = self.load(name, row, requests if round else max(requests // 10, 200))
                    except Failed as failed:
                        # One bad round makes the row one: what is left of it would be a figure of another load.
                        results.setdefault(row, {})[name] = {"failed": str(failed)}
                        print(f"failed: {failed}", file=sys.stderr)
                        continue
                    spent = cpu_seconds(pid) - before
                    if round:
                        cell = results.setdefault(row, {}).setdefault(name, {"cpu_us": [], "rps": [], "p50_ms": [], "p99_ms": []})
                        cell["cpu_us"].append(spent / requests * 1e6)
                        cell["rps"].append(answer["summary"]["requestsPerSec"])
                        cell["p50_ms"].append(answer["latencyPercentiles"]["p50"] * 1e3)
                        cell["p99_ms"].append(answer["latencyPercentiles"]["p99"] * 1e3)
                print(f"{row} round {round}/{self.args.rounds}", file=sys.stderr)
        memory = {name: (rest[name], each[name], rss_mib(pid)) for name, (pid, _) in self.peers.items()}
        return results, memory


def versions(args):
    def first(command):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            return (done.stdout + done.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            return "absent"
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    return {"portcullis": first([args.binary, "version"]), "nginx": first(["nginx", "-v"]), "haproxy": first(["haproxy", "-v"]),
            "envoy": first(["envoy", "--version"]), "oha": first([args.oha, "--version"]), "cpu": cpu, "cores": os.cpu_count(),
            "kernel": platform.release()}


def workers(args):
    """What a call costs with one worker and with two, in turn (PB-07)."""
    costs = {}
    for count in (1, 2, 1, 2):
        with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as work:
            bench = Bench(argparse.Namespace(**{**vars(args), "workers": count}), Path(work))
            try:
                bench.run_upstream()
                bench.run_portcullis()
                for row, cost in bench.cpu(("h1", "h2"), args.requests // 2, 2).items():
                    costs.setdefault(row, {}).setdefault(count, []).append(cost)
            finally:
                bench.stop()
        print(f"{count} workers", file=sys.stderr)
    return {row: {count: statistics.mean(found) for count, found in of.items()} for row, of in costs.items()}


def report(args, results, memory, scale, about):
    median = statistics.median
    lines = ["## The gateway beside nginx, HAProxy and Envoy", "",
             "Written by `just bench` (`tests/load/bench.py`).", "",
             f"- when: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {about['cores']} x {about['cpu']}, kernel {about['kernel']}",
             f"- versions: {about['portcullis']}; {about['nginx']}; {about['haproxy']}; envoy {about['envoy'].split('version: ')[-1]}; {about['oha']}",
             f"- ours: the whole gateway, {args.policies} scope-only policies, a decision record and metrics for each call; mTLS 1.3 everywhere,",
             f"  client certificates required, {args.workers} worker each, answers of 64 bytes where nothing else is said, from one nginx over plain HTTP/1.1",
             f"- CPU is user + system time of the proxy's processes for exactly {args.requests} calls ({args.requests // 2} over HTTP/3, {args.requests // 5} of 16 KiB, {args.requests // 250} of 1 MiB, {args.handshakes} handshakes); medians of {args.rounds} rounds,",
             "  peers alternated, first round discarded. nginx and HAProxy of Debian speak no HTTP/3. Throughput and latency shared two cores with the load generator: information only.", ""]
    for row, cells in results.items():
        whole = {name: cell for name, cell in cells.items() if "failed" not in cell}
        against = "nginx" if "nginx" in whole else "envoy"
        base = median(whole[against]["cpu_us"]) if against in whole else None
        lines += [f"### {ROWS[row][0]}", "", f"| proxy | CPU per request | x {against} | spread | requests/s | p50 | p99 |", "|---|---:|---:|---:|---:|---:|---:|"]
        for name, cell in cells.items():
            if "failed" in cell:
                lines.append(f"| {name} | failed | - | - | - | - | - |")
                continue
            cpu = median(cell["cpu_us"])
            spread = (max(cell["cpu_us"]) - min(cell["cpu_us"])) / cpu * 100
            ratio = f"{cpu / base:.2f}" if base else "-"
            mark = " unstable" if spread > 15 else ""
            lines.append(f"| {name} | {cpu:.1f} us | {ratio} | {spread:.0f} %{mark} | {median(cell['rps']):,.0f} | {median(cell['p50_ms']):.2f} ms | {median(cell['p99_ms']):.2f} ms |")
        lines += [line for cell in cells.values() if "failed" in cell for line in ("", f"Failed: {cell['failed']}.")]
        if row == "handshake" and whole:
            rates = ", ".join(f"{name} {1e6 / median(cell['cpu_us']):,.0f}" for name, cell in whole.items())
            lines += ["", f"Handshakes per CPU second: {rates}."]
        lines.append("")
    lines += ["### Memory", "", f"| proxy | RSS at rest | each of {args.idle:,} idle mTLS connections over HTTP/1.1, after one request | RSS after the run |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {rest:.1f} MiB | {each:.1f} KiB | {after:.1f} MiB |" for name, (rest, each, after) in memory.items()]
    lines += ["", "### One worker and two", "", "CPU per request of ours alone, in turn; both share two cores with the load generator and the upstream.", "",
              "| | one worker | two | ratio |", "|---|---:|---:|---:|"]
    lines += [f"| {ROWS[row][0]} | {of[1]:.1f} us | {of[2]:.1f} us | {of[2] / of[1]:.2f} |" for row, of in scale.items()]
    lines += ["", "![CPU per request](benchmarks.svg)", ""]
    docs = ROOT / "docs"
    page.write("gateway", lines)
    (docs / "benchmarks.json").write_text(json.dumps({"about": about, "args": {k: v for k, v in vars(args).items() if k not in ("binary", "oha", "h3load")}, "results": results, "workers": scale, "memory": {name: dict(zip(("rest_mib", "idle_connection_kib", "after_mib"), of)) for name, of in memory.items()}}, indent=1) + "\n")
    (docs / "benchmarks.svg").write_text(chart(results))
    print("\n".join(lines))


def chart(results):
    """A bar chart of CPU per request, drawn by hand so that nothing has to be installed."""
    colours = {"portcullis": "#0b6e4f", "nginx": "#9aa5b1", "haproxy": "#7b8794", "envoy": "#cbd2d9"}
    whole = {row: {name: cell for name, cell in cells.items() if "failed" not in cell} for row, cells in results.items()}
    rows = [row for row in ("h1", "h2") if whole.get(row)]
    longest = max((statistics.median(cell["cpu_us"]) for row in rows for cell in whole[row].values()), default=1)
    out, y = [], 30
    for row in rows:
        out.append(f'<text x="10" y="{y}" font-weight="bold">{ROWS[row][0]}</text>')
        y += 12
        for name, cell in whole[row].items():
            cpu = statistics.median(cell["cpu_us"])
            width = cpu / longest * 430
            out.append(f'<text x="100" y="{y + 14}" text-anchor="end">{name}</text><rect x="108" y="{y}" width="{width:.0f}" height="18" fill="{colours[name]}"/>'
                       f'<text x="{114 + width:.0f}" y="{y + 14}">{cpu:.1f} us</text>')
            y += 24
        y += 24
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
            + "".join(out) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "dist" / "portcullis"))
    parser.add_argument("--oha", default=OHA)
    parser.add_argument("--h3load", default=H3LOAD)
    parser.add_argument("--rows", default=",".join(ROWS), help="which, by their keys")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--handshakes", type=int, default=3_000)
    parser.add_argument("--idle", type=int, default=8_000, help="connections that are held; HAProxy wants two descriptors for each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="portcullis,nginx,haproxy,envoy")
    parser.add_argument("--print", action="store_true", help="print only, write nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portcullis-bench-") as work:
        bench = Bench(args, Path(work))
        try:
            bench.run_upstream()
            bench.run_portcullis()
            wanted = args.only.split(",")
            for name in ("nginx", "haproxy", "envoy"):
                if name not in wanted:
                    continue
                if shutil.which(name) is None:
                    print(f"peer absent: {name}", file=sys.stderr)
                    continue
                getattr(bench, f"run_{name}")()
            results, memory = bench.measure()
        finally:
            bench.stop()
        if args.print:
            for row, cells in results.items():
                figures = {name: "failed" if "failed" in cell else round(statistics.median(cell["cpu_us"]), 1) for name, cell in cells.items()}
                print(row, figures, {n: [round(one, 1) for one in m] for n, m in memory.items()})
        else:
            report(args, results, memory, workers(args), versions(args))


if __name__ == "__main__":
    main()
