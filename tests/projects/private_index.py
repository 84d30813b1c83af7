"""A package index that wants a password, with one package on it. Prints its port; `LOG` gets a line a request."""

import base64
import hashlib
import io
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS, USER, PASSWORD, LOG = sys.argv[1:5]
NAME = "rapidclaw_private_thing-7-py3-none-any.whl"


def wheel() -> bytes:
    files = {
        "rapidclaw_private_thing.py": "value = 'private'\n",
        "rapidclaw_private_thing-7.dist-info/METADATA": "Metadata-Version: 2.1\nName: rapidclaw-private-thing\nVersion: 7\n",
        "rapidclaw_private_thing-7.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "rapidclaw_private_thing-7.dist-info/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in (files | {"rapidclaw_private_thing-7.dist-info/RECORD": record}).items():
            archive.writestr(name, text)
    return out.getvalue()


WHEEL = wheel()
PAGE = f'<a href="{NAME}#sha256={hashlib.sha256(WHEEL).hexdigest()}">{NAME}</a>'.encode()
EXPECTED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Index(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == EXPECTED
        with open(LOG, "a") as log:
            log.write(f"{self.path} {known}\n")
        status, kind, body = 404, "text/plain", b""
        if not known:
            status = 401
        elif self.path == "/simple/rapidclaw-private-thing/":
            status, kind, body = 200, "text/html", PAGE
        elif self.path.endswith(NAME):
            status, kind, body = 200, "application/octet-stream", WHEEL
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer((ADDRESS, 0), Index)
print(server.server_address[1], flush=True)
server.serve_forever()
