"""A name server on loopback: answers from a file that is read for every question, and tells each question."""

import json
import socket
import struct
import sys

port, zone = int(sys.argv[1]), sys.argv[2]
KINDS = {1: socket.AF_INET, 28: socket.AF_INET6}


def question(query):
    """The name, its kind, and where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack_from("!H", query, at + 1)[0], at + 5


def answer(query):
    name, kind, end = question(query)
    with open(zone, encoding="utf-8") as file:
        entry = json.load(file).get(name)
    records, code = b"", 3
    count = 0
    if entry == "failure":
        code = 2
    elif entry is not None:
        code = 0
        for text in entry["addresses"]:
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            if KINDS.get(kind) == family:
                data = socket.inet_pton(family, text)
                records += struct.pack("!HHHIH", 0xC00C, kind, 1, entry["ttl"], len(data)) + data
                count += 1
    print(json.dumps({"name": name, "kind": kind, "code": code, "answers": count}), flush=True)
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, count, 0, 0)
    return head + query[12:end] + records


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", port))
print(json.dumps({"listening": port}), flush=True)
while True:
    query, caller = server.recvfrom(4096)
    server.sendto(answer(query), caller)
