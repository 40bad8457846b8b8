"""An HTTP/1.1 origin by Python's http.server: answers each request with how it read it.

Values are told as latin-1, one character for each byte.
"""

import http.server
import json

SIZE = "content-length"


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.tell
        raise AttributeError(name)

    def read_body(self):
        if self.headers.get("transfer-encoding"):
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        return self.rfile.read(int(self.headers.get(SIZE, 0)))

    def tell(self):
        path, mark, query = self.path.partition("?")
        told = {
            "method": self.command,
            "path": path,
            "query": query if mark else None,
            "headers": [[name.lower(), value.strip(" \t")] for name, value in self.headers.raw_items()],
            "body": self.read_body().decode("latin-1"),
        }
        answer = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header(SIZE, str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
