"""Tunnels over HTTP/2 and mutual TLS, with hyper-h2.

  h2_tunnel.py ADDRESS TLS_DIR websocket PATH SIZE ...    RFC 8441: the status, then echoes of binary messages
  h2_tunnel.py ADDRESS TLS_DIR websocket PATH stay        the status and one echo, then the end of the stream
  h2_tunnel.py ADDRESS TLS_DIR connect TARGET SIZE ...    CONNECT: the status, then echoes of so many bytes

Prints one JSON line per step.
"""

import json
import os
import socket
import ssl
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

address, tls, step, target = sys.argv[1:5]
rest = sys.argv[5:]
stays = rest == ["stay"]
sizes = [5] if stays else [int(size) for size in rest]


def say(**event):
    print(json.dumps(event), flush=True)


class Stream:
    def __init__(self):
        context = ssl.create_default_context(cafile=f"{tls}/bundle.pem")
        context.load_cert_chain(f"{tls}/svid.pem", f"{tls}/svid.key")
        context.set_alpn_protocols(["h2"])
        port = int(address.rsplit(":", 1)[1])
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.status = self.ended = None
        self.got = b""
        self.is_greeted = False
        while not self.is_greeted:
            self.read()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def read(self):
        arrived = self.socket.recv(65536)
        if not arrived:
            self.ended = self.ended or "connection"
            return
        for event in self.h2.receive_data(arrived):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                self.is_greeted = True
            elif isinstance(event, h2.events.ResponseReceived):
                self.status = int(dict(event.headers)[":status"])
                self.fields = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.got += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.ended = f"reset {int(event.error_code)}"
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = self.ended or "end"
        self.flush()

    def ask(self, headers):
        self.h2.send_headers(1, headers)
        self.flush()
        while self.status is None and self.ended is None:
            self.read()
        return self.status

    def send(self, data):
        while data:
            room = min(self.h2.local_flow_control_window(1), self.h2.max_outbound_frame_size, len(data))
            if room:
                self.h2.send_data(1, data[:room])
                data = data[room:]
                self.flush()
            else:
                self.read()

    def exactly(self, size):
        while len(self.got) < size and self.ended is None:
            self.read()
        taken, self.got = self.got[:size], self.got[size:]
        return taken


def frame(message):
    mask = os.urandom(4)
    size = len(message)
    if size < 126:
        head = struct.pack("!BB", 0x82, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x82, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x82, 0x80 | 127, size)
    key = int.from_bytes(mask * (size // 4 + 1), "big") >> 8 * (4 * (size // 4 + 1) - size)
    return head + mask + (int.from_bytes(message, "big") ^ key).to_bytes(size, "big")


def message(stream):
    whole = b""
    while True:
        first, size = stream.exactly(2)
        if size == 126:
            size = struct.unpack("!H", stream.exactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", stream.exactly(8))[0]
        whole += stream.exactly(size)
        if first & 0x80:
            return whole


stream = Stream()
host = address.replace("127.0.0.1", "localhost")
if step == "websocket":
    offered = stream.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
    status = stream.ask(
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", target),
            (":authority", host),
            ("sec-websocket-version", "13"),
        ]
    )
    say(offered=offered, status=status, accept=stream.fields.get("sec-websocket-accept"))
else:
    say(status=stream.ask([(":method", "CONNECT"), (":authority", target)]))
if stream.status == 200:
    for size in sizes:
        sent = bytes(number % 251 for number in range(size))
        if step == "websocket":
            stream.send(frame(sent))
            heard = message(stream)
        else:
            stream.send(sent)
            heard = stream.exactly(size)
        assert heard == sent, (size, len(heard))
    say(echoes=len(sizes))
    if stays:
        while stream.ended is None:
            stream.read()
    else:
        stream.h2.end_stream(1)
        stream.flush()
        while stream.ended is None:
            stream.read()
    say(ended=stream.ended)
