#!/usr/bin/env python3
"""What a pair of sidecars adds to a call: plain HTTP/1.1 -> mutual TLS, HTTP/2 or HTTP/3 -> plain HTTP/1.1, beside direct
calls and beside a pair of Envoys. Run by `just bench-pair`; writes its part of docs/benchmarks.md.

At a low, fixed rate (PB-03: 500 calls a second, 1 KiB there and back), rounds alternate between the rows, the first is
discarded, and what counts is the median of the rounds' medians. Only loopback is used.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench
import page
from bench import free_port

BAR_MS = 0.2
PERMIT = '@id("bench")\npermit (principal == Workload::"spiffe://example.org/bench", action in Action::"http:write", resource == Route::"bench");\n'


class Pair(bench.Bench):
    def run_ours(self):
        roles = (f'[ca]\n[[ca.entry]]\nspiffe_id = "spiffe://example.org/bench"\nselectors = ["unix:uid:{os.getuid()}"]\ndns_names = ["localhost"]\n'
                 f'[agent]\nsocket = "unix://{self.work}/workload.sock"')
        inner = self.gateway("inner", roles, 'id = "spiffe://example.org/orders"\ndns_names = ["localhost"]',
                             'profile = "sidecar-in"', f'to = ["http://127.0.0.1:{self.upstream}"]')
        subprocess.run([self.args.binary, "svid", "write", "--once", "--dir", str(self.work / "tls"), "--socket", f"unix://{self.work}/workload.sock"],
                       check=True, stdout=subprocess.DEVNULL)
        for protocol, name in [("h2", "portcullis pair"), ("h3", "portcullis pair, HTTP/3")]:
            cluster = (f'cluster = "orders"\n[[enforcer.cluster]]\nname = "orders"\nendpoints = ["https://127.0.0.1:{inner}"]\n'
                       f'protocol = "{protocol}"\nexpect = ["spiffe://example.org/orders"]\n')
            if protocol == "h3":
                cluster += "require_h3 = true\n"
            self.peers[name] = self.gateway(
                f"outer-{protocol}", "", f'id = "spiffe://example.org/bench"\nworkload_api = "unix://{self.work}/workload.sock"',
                f'profile = "sidecar-out"\ncallers = ["unix:uid:{os.getuid()}"]', cluster)

    def gateway(self, name, roles, identity, listener, route):
        port, dir = free_port(), self.work / name
        quic = "" if "sidecar-out" in listener else f', "quic://127.0.0.1:{port}"'
        (dir / "policies").mkdir(parents=True)
        rules = [f'@id("other-{n}")\npermit (principal == Workload::"spiffe://example.org/other-{n}", action in Action::"http:read", resource == Route::"bench");\n'
                 for n in range(self.args.policies - 1)] + [PERMIT]
        (dir / "policies" / "bench.cedar").write_text("\n".join(rules))
        (dir / "portcullis.toml").write_text(f"""
version = 1
trust_domain = "example.org"
data_dir = "{dir}/data"
{roles}
[policies]
dir = "{dir}/policies"
[enforcer]
{identity}
workers = 1
[[enforcer.listener]]
name = "bench"
bind = ["tcp://127.0.0.1:{port}"{quic}]
{listener}
[[enforcer.service]]
name = "bench"
[[enforcer.route]]
name = "bench"
service = "bench"
match = {{ path = "/" }}
{route}
[admin]
listen = []
log = "error"
""")
        self.start(name, [self.args.binary, "run", "-c", str(dir / "portcullis.toml")], port)
        return port

    def run_envoys(self):
        tls = self.work / "tls"
        certificates = f"""
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
            alpn_protocols: [h2]
            tls_certificates: [{{certificate_chain: {{filename: {tls}/svid.pem}}, private_key: {{filename: {tls}/svid.key}}}}]
            validation_context: {{trusted_ca: {{filename: {tls}/bundle.pem}}}}"""
        down = f"""
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:{certificates}"""
        up = f"""
    transport_socket:
      name: tls
      typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          common_tls_context:{certificates}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}"""
        inner = self.envoy("envoy-inner", down, "", self.upstream, is_quic=True)
        self.peers["Envoy pair"] = self.envoy("envoy-outer", "", up, inner)
        self.peers["Envoy pair, HTTP/3"] = self.envoy("envoy-outer-h3", "", self.over_quic(up), inner)

    def over_quic(self, up):
        """The same settings of an upstream, over HTTP/3."""
        tls = "".join(line + "\n" for line in up.split("\n") if "alpn_protocols" not in line)
        tls = tls.replace("tls.v3.UpstreamTlsContext", "quic.v3.QuicUpstreamTransport").replace("name: tls", "name: envoy.transport_sockets.quic")
        tls = tls.replace("          sni: localhost\n          common_tls_context:", "          upstream_tls_context:\n           sni: localhost\n           common_tls_context:")
        return tls.replace("http2_protocol_options", "http3_protocol_options")

    def envoy(self, name, down, up, to, is_quic=False):
        port, conf, tls = free_port(), self.work / f"{name}.yaml", self.work / "tls"
        quic = f"""
  - address: {{socket_address: {{protocol: UDP, address: 127.0.0.1, port_value: {port}}}}}
    udp_listener_config: {{quic_options: {{}}, downstream_socket_config: {{prefer_gro: true}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: quic
          codec_type: HTTP3
          http3_protocol_options: {{}}
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: up}}}}]}}]
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
      transport_socket:
        name: envoy.transport_sockets.quic
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
           require_client_certificate: true
           common_tls_context:
            tls_certificates: [{{certificate_chain: {{filename: {tls}/svid.pem}}, private_key: {{filename: {tls}/svid.key}}}}]
            validation_context: {{trusted_ca: {{filename: {tls}/bundle.pem}}}}""" if is_quic else ""
        conf.write_text(f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: up}}}}]}}]
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}{down}{quic}
  clusters:
  - name: up
    connect_timeout: 5s
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {to}}}}}}}}}]}}]{up}
""")
        self.start(name, ["envoy", "-c", str(conf), "--concurrency", "1", "--disable-hot-restart", "-l", "error"], port)
        return port

    def measure(self):
        results = {name: {"p50_ms": [], "p99_ms": []} for name in self.peers}
        for round in range(self.args.rounds + 1):
            for name, port in self.peers.items():
                answer = self.load(name, port)
                if round:
                    results[name]["p50_ms"].append(answer["latencyPercentiles"]["p50"] * 1e3)
                    results[name]["p99_ms"].append(answer["latencyPercentiles"]["p99"] * 1e3)
            print(f"round {round}/{self.args.rounds}", file=sys.stderr)
        return results

    def load(self, name, port):
        requests = self.args.rate * self.args.seconds
        command = [self.args.oha, "--no-tui", "--output-format", "json", "-n", str(requests), "-q", str(self.args.rate), "-c", "4",
                   "--worker-threads", "1", "-m", "POST", "-d", "x" * 1024]
        done = subprocess.run(command + [f"http://127.0.0.1:{port}/bench"], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise SystemExit(f"{name}: the load generator failed: {done.stderr[-500:]}")
        answer = json.loads(done.stdout)
        if answer["statusCodeDistribution"] != {"200": requests}:
            raise SystemExit(f"{name}: expected {requests} answers 200, got {answer['statusCodeDistribution']} {answer.get('errorDistribution')}")
        return answer


def report(args, results, about):
    median = statistics.median
    direct = median(results["direct"]["p50_ms"])
    lines = ["## A pair of sidecars beside direct calls", "",
             "Written by `just bench-pair` (`tests/load/pair.py`).", "",
             f"- when: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {about['cores']} x {about['cpu']}, kernel {about['kernel']}",
             f"- versions: {about['portcullis']} ({args.build}); envoy {about['envoy'].split('version: ')[-1]}; {about['nginx']}; {about['oha']}",
             f"- {args.rate} calls a second over 4 connections of plain HTTP/1.1, 1 KiB there and back; mutual TLS 1.3 between the sidecars, over",
             f"  HTTP/2 where nothing else is said; one worker each. Ours judges against {args.policies} policies and records at both sides; the Envoys have no RBAC",
             f"- medians of {args.rounds} rounds of {args.seconds} s; rows alternated, first round discarded; all on the same two cores", "",
             "| way | p50 | added p50 | spread | p99 |", "|---|---:|---:|---:|---:|"]
    for name, cell in results.items():
        p50 = median(cell["p50_ms"])
        spread = (max(cell["p50_ms"]) - min(cell["p50_ms"])) / p50 * 100
        lines.append(f"| {name} | {p50:.3f} ms | {p50 - direct:.3f} ms | {spread:.0f} %{' unstable' if spread > 15 else ''} | {median(cell['p99_ms']):.2f} ms |")
    added = {name: median(cell["p50_ms"]) - direct for name, cell in results.items() if name.startswith("portcullis")}
    told = ", ".join(f"{'met' if ms <= BAR_MS else 'missed'} over {'HTTP/3' if 'HTTP/3' in name else 'HTTP/2'}" for name, ms in added.items())
    lines += ["", f"The bar is {BAR_MS} ms added (PB-03): {told}."]
    print("\n".join(lines))
    if not args.print:
        page.write("pair", lines)
    return all(ms <= BAR_MS for ms in added.values())


def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", bench.ROOT / "target"))
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(target / "dist" / "portcullis"))
    parser.add_argument("--build", default="dist", help="how the binary was built")
    parser.add_argument("--oha", default=shutil.which("oha") or str(target / "peers" / "bin" / "oha"))
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--gate", action="store_true", help="fail when the bar is missed")
    parser.add_argument("--print", action="store_true", help="print only, write nothing")
    args = parser.parse_args()
    bench.BODY = "x" * 1024
    with tempfile.TemporaryDirectory(prefix="portcullis-pair-") as work:
        pair = Pair(args, Path(work))
        try:
            pair.run_upstream()
            pair.peers["direct"] = pair.upstream
            pair.run_ours()
            if shutil.which("envoy"):
                pair.run_envoys()
            else:
                print("peer absent: envoy", file=sys.stderr)
            results = pair.measure()
        finally:
            pair.stop()
    if not report(args, results, bench.versions(args)) and args.gate:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
