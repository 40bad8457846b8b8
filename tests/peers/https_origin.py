"""An HTTPS origin: tells who called it, by the certificate of the connection.

  https_origin.py PORT TLS_DIR      with the X.509-SVID there; callers must show one too
  https_origin.py PORT CHAIN KEY    with that certificate, for anybody
"""

import http.server
import json
import ssl
import sys

port, *files = int(sys.argv[1]), *sys.argv[2:]


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        peer = self.connection.getpeercert() or {}
        names = [name for kind, name in peer.get("subjectAltName", ()) if kind == "URI"]
        ours = [name.lower() for name in self.headers if name.lower().startswith(("portcullis-", "x-forwarded-client-cert"))]
        told = {"caller": names, "version": self.connection.version(), "path": self.path, "sni": self.server.sni,
                "host": self.headers["host"], "ours": sorted(ours)}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if len(files) == 1:
    tls = files[0]
    context.load_cert_chain(f"{tls}/svid.pem", f"{tls}/svid.key")
    context.load_verify_locations(f"{tls}/bundle.pem")
    context.verify_mode = ssl.CERT_REQUIRED
else:
    context.load_cert_chain(*files)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Origin)
server.sni = None


def named(_socket, name, _context):
    server.sni = name


context.sni_callback = named
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"listening": port}), flush=True)
server.serve_forever()
