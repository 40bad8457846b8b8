"""A workload of one trust domain that calls a gateway of another, with what py-spiffe's X509Source holds at the moment.

  federated_client.py SOCKET PORT DOMAIN once   one call on a connection of its own
  federated_client.py SOCKET PORT DOMAIN many   one connection after the other until stdin ends; then the count
  federated_client.py SOCKET PORT DOMAIN hold   one call a fifth of a second on one connection, until it is closed

DOMAIN is the trust domain of the gateway. Prints one JSON line per step.
"""

import http.client
import json
import ssl
import sys
import tempfile
import threading
import time

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import TrustDomain, X509Source

socket, port, domain, step = sys.argv[1], int(sys.argv[2]), TrustDomain(sys.argv[3]), sys.argv[4]


def say(**event):
    print(json.dumps(event), flush=True)


def connection(source):
    bundle = source.get_bundle_for_trust_domain(domain)
    if bundle is None:
        raise OSError("no bundle of " + str(domain))
    roots = b"".join(root.public_bytes(Encoding.PEM) for root in bundle.x509_authorities)
    context = ssl.create_default_context(cadata=roots.decode())
    svid = source.svid
    with tempfile.NamedTemporaryFile() as file:
        file.write(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.write(b"".join(part.public_bytes(Encoding.PEM) for part in svid.cert_chain))
        file.flush()
        context.load_cert_chain(file.name)
    return http.client.HTTPSConnection("localhost", port, timeout=5, context=context)


def call(open_connection):
    open_connection.request("GET", "/x")
    answer = open_connection.getresponse()
    answer.read()
    return answer.status


def once(source):
    made = connection(source)
    status = call(made)
    made.close()
    return status


def many(source):
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    calls, lost = 0, []
    say(started=True)
    while not stop.is_set():
        try:
            status = once(source)
            calls += 1
            if status != 200:
                lost.append(status)
        except OSError as error:
            lost.append(str(error))
        time.sleep(0.02)
    say(calls=calls, lost=lost)


def hold(source):
    made = connection(source)
    while True:
        try:
            # Nothing opens it anew.
            made.auto_open = 0
            if made.sock is None:
                made.connect()
            status = call(made)
        except (OSError, http.client.HTTPException) as error:
            say(ended=str(error))
            return
        say(status=status)
        if status != 200:
            return
        time.sleep(0.2)


with X509Source(socket_path=socket) as source:
    if step == "once":
        try:
            say(id=str(source.svid.spiffe_id), status=once(source))
        except OSError as error:
            say(id=str(source.svid.spiffe_id), failed=str(error))
    elif step == "many":
        many(source)
    else:
        hold(source)
