"""Bytes over mutual TLS that are no HTTP.

  tls_client.py PORT TLS_DIR greeting          the first bytes that the other side says, and after how long
  tls_client.py PORT TLS_DIR echo SIZE ...     sends so many bytes, checks that they come back
  tls_client.py PORT TLS_DIR hold              says `x`, hears it, waits for the end
  tls_client.py PORT TLS_DIR connect TARGET    asks for a tunnel by HTTP/1.1, then as echo with 100000 bytes
  tls_client.py PORT TLS_DIR proxy LINE        sends that line before TLS; what comes back, up to the caller's own id

Prints one JSON line per step.
"""

import json
import socket
import ssl
import sys
import time

port, tls, step = int(sys.argv[1]), sys.argv[2], sys.argv[3]
rest = sys.argv[4:]


def say(**event):
    print(json.dumps(event), flush=True)


def exactly(connection, size):
    got = b""
    while len(got) < size:
        part = connection.recv(min(65536, size - len(got)))
        if not part:
            return got
        got += part
    return got


def echo(connection, size):
    message = bytes(number % 251 for number in range(size))
    for at in range(0, size, 10000):
        part = message[at : at + 10000]
        connection.sendall(part)
        if exactly(connection, len(part)) != part:
            return False
    return True


def until_end(connection):
    got = b""
    try:
        while part := connection.recv(65536):
            got += part
    except OSError:
        pass
    return got


context = ssl.create_default_context(cafile=f"{tls}/bundle.pem")
context.load_cert_chain(f"{tls}/svid.pem", f"{tls}/svid.key")
began = time.monotonic()
raw = socket.create_connection(("127.0.0.1", port), timeout=20)
if step == "proxy":
    raw.sendall(rest[0].encode() + b"\r\n")
try:
    connection = context.wrap_socket(raw, server_hostname="localhost")
    if step == "greeting":
        heard = connection.recv(1000)
        say(heard=heard.decode(), after=time.monotonic() - began)
    elif step == "echo":
        for size in rest:
            say(size=int(size), same=echo(connection, int(size)))
    elif step == "hold":
        say(open=echo(connection, 1))
        say(left=len(until_end(connection)))
    elif step == "connect":
        connection.sendall(f"CONNECT {rest[0]} HTTP/1.1\r\nhost: {rest[0]}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = connection.recv(1)
            if not part:
                break
            head += part
        status = int(head.split(b" ")[1]) if head else 0
        say(status=status, head=head.decode())
        if status == 200:
            say(same=echo(connection, 100000))
    elif step == "proxy":
        heard = b""
        while b"example.org/web" not in heard and (part := connection.recv(1000)):
            heard += part
        say(heard=heard.decode(errors="replace"))
    if step in ("greeting", "echo"):
        connection.unwrap().close()
except OSError as error:
    say(failed=str(error))
