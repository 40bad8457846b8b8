"""A bundle endpoint that answers as it is told, over https with a certificate of its name.

  bundle_server.py PORT CHAIN KEY RULES

RULES is a file with JSON: {PATH: {"status": 200, "headers": {}, "body": "..", "size": bytes, "wait": seconds}}. It is read
anew for each request.
"""

import http.server
import json
import ssl
import sys
import time

port, chain, key, rules = int(sys.argv[1]), *sys.argv[2:]


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        rule = json.load(open(rules)).get(self.path, {"status": 404})
        body = rule.get("body", "").encode()
        body += b" " * (rule.get("size", 0) - len(body))
        self.send_response(rule.get("status", 200))
        for name, value in rule.get("headers", {}).items():
            self.send_header(name, value)
        if "status" not in rule or rule["status"] == 200:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        time.sleep(rule.get("wait", 0))
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Endpoint)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"listening": port}), flush=True)
server.serve_forever()
