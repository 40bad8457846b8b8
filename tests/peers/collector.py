"""A collector of spans, metrics and logs (OTLP over HTTP, protobuf), which reads what it gets field by field.

  collector.py              takes everything
  collector.py refuse       answers 503
  collector.py late         answers 503 twice, then takes everything
  collector.py never        answers 400
  collector.py CHAIN KEY    takes everything over TLS, with that certificate

Prints the port, then one JSON line per span, metric or log.
"""

import http.server
import json
import ssl
import struct
import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    at, found = 0, {}
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        else:
            raise ValueError(f"wire type {kind}")
        found.setdefault(number, []).append(value)
    return found


def plain(value):
    value = fields(value)
    if 1 in value:
        return value[1][0].decode()
    if 5 in value:
        return [plain(item) for item in fields(value[5][0]).get(1, [])]
    return value[3][0]


def attributes(pairs):
    pairs = [fields(pair) for pair in pairs]
    told = {pair[1][0].decode(): plain(pair[2][0]) for pair in pairs}
    assert len(told) == len(pairs), "a key is told twice"
    return told


def number(point):
    value = struct.unpack("<q", struct.pack("<Q", point.get(6, [0])[0]))[0]
    return {"labels": attributes(point.get(7, [])), "value": value, **times(point)}


def buckets(point):
    def packed(number, kind):
        data = b"".join(point.get(number, []))
        return list(struct.unpack(f"<{len(data) // 8}{kind}", data))

    total = struct.unpack("<d", struct.pack("<Q", point[5][0]))[0]
    told = {"count": point.get(4, [0])[0], "sum": total, "counts": packed(6, "Q"), "bounds": packed(7, "d")}
    return {"labels": attributes(point.get(9, [])), **told, **times(point)}


def times(point):
    return {"from": point.get(2, [0])[0], "at": point[3][0]}


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Collector.asked += 1
        is_early = "late" in sys.argv and Collector.asked <= 2
        status = 503 if is_early or "refuse" in sys.argv else 400 if "never" in sys.argv else 200
        if status == 200:
            self.tell(body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def tell(self, body):
        if self.path.endswith("/metrics"):
            self.metrics(body)
            return
        for resource in fields(body).get(1, []):
            resource = fields(resource)
            about = attributes(fields(resource[1][0]).get(1, []))
            for scope in resource.get(2, []):
                if self.path.endswith("/logs"):
                    self.tell_logs(fields(scope).get(2, []), about)
                    continue
                for span in fields(scope).get(2, []):
                    span = fields(span)
                    status = fields(span[15][0]) if 15 in span else {}
                    say(
                        path=self.path,
                        type=self.headers["content-type"],
                        resource=about,
                        trace=span[1][0].hex(),
                        span=span[2][0].hex(),
                        parent=span[4][0].hex() if 4 in span else None,
                        name=span[5][0].decode(),
                        kind=span[6][0],
                        took=span[8][0] - span[7][0],
                        attributes=attributes(span.get(9, [])),
                        failed=status.get(3, [0])[0] == 2,
                    )

    def metrics(self, body):
        for resource in fields(body).get(1, []):
            resource = fields(resource)
            about = attributes(fields(resource[1][0]).get(1, []))
            for scope in resource.get(2, []):
                for metric in fields(scope).get(2, []):
                    metric = fields(metric)
                    kind = next(number for number in (5, 7, 9) if number in metric)
                    data = fields(metric[kind][0])
                    read = buckets if kind == 9 else number
                    say(
                        path=self.path,
                        type=self.headers["content-type"],
                        key=self.headers["x-key"],
                        resource=about,
                        name=metric[1][0].decode(),
                        text=metric[2][0].decode(),
                        unit=metric[3][0].decode(),
                        kind={5: "gauge", 7: "sum", 9: "histogram"}[kind],
                        # 2 = counted from the start.
                        temporality=data.get(2, [0])[0],
                        grows=kind == 7 and data.get(3, [0])[0] == 1,
                        points=[read(fields(point)) for point in data[1]],
                    )

    def tell_logs(self, logs, about):
        for log in map(fields, logs):
            say(
                path=self.path,
                type=self.headers["content-type"],
                resource=about,
                nanos=log[1][0],
                severity=[log[2][0], log[3][0].decode()],
                body=plain(log[5][0]),
                attributes=attributes(log.get(6, [])),
                trace=log[9][0].hex() if 9 in log else None,
                span=log[10][0].hex() if 10 in log else None,
                event=log[12][0].decode(),
            )

    def log_message(self, *_):
        pass


def say(**event):
    print(json.dumps(event), flush=True)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
if len(sys.argv) == 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
say(port=server.server_address[1])
server.serve_forever()
