"""A stand-in for Google's storage on loopback; prints its port when it listens.

It answers the requests for listing and reading that obstore (XML) and Arrow (JSON) send, and no
other. It is a process of its own, since Arrow's client keeps other threads waiting.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

TIME = "2026-01-31T12:00:00.000Z"
SENT = ["odd/t\tab.jpg", "odd/d\x7fel.jpg", "odd/ok.jpg", "odd/q?x#y.jpg"]
NOT_SENT = ["odd/a//b.jpg", "odd/a/./b.jpg"]
KEYS = sorted([*SENT, *NOT_SENT, *(f"odd/plain-{number:03d}.jpg" for number in range(30))])


class StandIn(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.send_header("Last-Modified", "Sat, 31 Jan 2026 12:00:00 GMT")
        self.send_header("ETag", '"tag"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        path = address.path
        if path.rstrip("/") == "/lake":
            self.reply(200, xml_listing(query.get("prefix", "")), "application/xml")
        elif path == "/storage/v1/b/lake/o":
            self.reply(200, json_listing(query.get("prefix", "")), "application/json")
        elif path.startswith("/storage/v1/b/lake/o/"):
            key = unquote(path.removeprefix("/storage/v1/b/lake/o/"))
            self.json_object(key, media=query.get("alt") == "media")
        else:
            key = unquote(path.removeprefix("/lake/"))
            self.reply(200 if key in KEYS else 404, key.encode(), "image/jpeg")

    do_HEAD = do_GET  # noqa: N815 -- the name is that of the standard library

    def json_object(self, key: str, *, media: bool) -> None:
        if key not in KEYS:
            self.reply(404, b'{"error": {"code": 404, "message": "none"}}', "application/json")
        elif media:
            self.reply(200, key.encode(), "image/jpeg")
        else:
            self.reply(200, json.dumps(described(key)).encode(), "application/json")


def described(key: str) -> dict[str, str]:
    size = str(len(key.encode()))
    return {
        "kind": "storage#object", "name": key, "bucket": "lake", "size": size, "updated": TIME,
        "timeCreated": TIME, "generation": "1", "metageneration": "1",
    }  # fmt: skip


def json_listing(prefix: str) -> bytes:
    items = [described(key) for key in KEYS if key.startswith(prefix)]
    return json.dumps({"kind": "storage#objects", "items": items}).encode()


def xml_listing(prefix: str) -> bytes:
    # obstore reads a control character only as a reference.
    entries = "".join(
        f"<Contents><Key>{escape(key, {chr(9): '&#9;', chr(127): '&#127;'})}</Key>"
        f"<LastModified>{TIME}</LastModified><ETag>tag</ETag><Size>{len(key.encode())}</Size>"
        "</Contents>"
        for key in KEYS
        if key.startswith(prefix)
    )
    return (
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    )


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    print(server.server_address[1], flush=True)
    server.serve_forever()
