"""Calls over kept TLS connections, and fresh handshakes beside them. Prints one JSON object per line.

  https_load.py ADDRESS TLS_DIR METHOD THREADS SECONDS

Each thread keeps one connection and calls until the time is over or the connection breaks. Every answer is told with
its decision id, so that a reader knows what the gateway had acknowledged when it was killed. Beside them one thread
makes a new connection for each call and tells the serial number of the certificate that the gateway showed.
"""

import http.client
import json
import ssl
import sys
import threading
import time

from cryptography import x509

address, tls, method, threads, seconds = sys.argv[1:6]
host, port = address.rsplit(":", 1)
end = time.monotonic() + float(seconds)
lock = threading.Lock()


def say(**event):
    with lock:
        print(json.dumps(event), flush=True)


def context():
    # Who the gateway is gets checked elsewhere: its clock may be ahead of ours here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(f"{tls}/svid.pem", f"{tls}/svid.key")
    return context


def connect():
    connection = http.client.HTTPSConnection(host, int(port), context=context(), timeout=10)
    connection.connect()
    connection.auto_open = 0
    shown = x509.load_der_x509_certificate(connection.sock.getpeercert(True))
    return connection, format(shown.serial_number, "x")


def call(connection, path):
    connection.request(method, path, body=b"x" if method == "POST" else None)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("portcullis-decision-id")


def keep(thread):
    count = 0
    try:
        connection, serial = connect()
        say(kept=thread, serial=serial)
        while time.monotonic() < end:
            status, decision = call(connection, f"/kept/{thread}/{count}")
            say(thread=thread, status=status, decision=decision)
            count += 1
            time.sleep(0.002)
    except Exception as error:
        say(thread=thread, broken=repr(error), after=count)
        return
    say(thread=thread, done=count)


def fresh():
    while time.monotonic() < end:
        try:
            connection, serial = connect()
            status, decision = call(connection, "/fresh")
            say(fresh=serial, status=status, decision=decision)
            connection.close()
        except Exception as error:
            say(fresh=None, broken=repr(error))
        time.sleep(0.1)


running = [threading.Thread(target=keep, args=(number,)) for number in range(int(threads))]
running.append(threading.Thread(target=fresh))
for thread in running:
    thread.start()
for thread in running:
    thread.join()
