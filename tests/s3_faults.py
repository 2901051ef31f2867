"""A proxy before the S3 server of the tests that fails for chosen objects, as networks do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

FAULTS = (
    "500", "503", "429", "403", "404", "expired", "silent", "slow", "trickle", "reset", "short",
)  # fmt: skip

_ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "403": (403, "AccessDenied"),
    "404": (404, "NoSuchKey"),
    "429": (429, "TooManyRequests"),
    "expired": (400, "ExpiredToken"),
}


@dataclass
class _Fault:
    kind: str
    left: float


class FaultProxy:
    """Passes requests on to an S3 server, except for those that it was told to fail.

    It runs in a thread of this process; `endpoint` is what clients in any process connect to.

    Parameters
    ----------
    upstream
        ``http://host:port`` of the real server.
    stall_s
        How long ``silent``, ``slow`` and ``trickle`` last before the connection is closed.
    """

    def __init__(self, upstream: str, *, stall_s: float = 30.0) -> None:
        self.upstream = upstream
        self.stall_s = stall_s
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._faults: dict[str, _Fault] = {}
        self._requests: Counter[tuple[str, str]] = Counter()
        proxy = self

        class Handler(_Handler):
            faults = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, uri: str, fault: str, *, times: float = float("inf")) -> None:
        """Answer readings of one object with a fault, `times` times, then pass them on again.

        Parameters
        ----------
        uri
            ``s3://bucket/key``; the key may end in ``*`` for every object that begins so.
        fault
            ``500``, ``503``, ``429``, ``403``, ``404``, ``expired`` (the token is), ``silent`` (no
            answer), ``slow`` (the answer stops halfway), ``trickle`` (it comes byte by byte from
            there), ``reset`` (the connection is reset halfway), or ``short`` (it ends halfway).
        """
        if fault not in FAULTS:
            raise ValueError(f"expected one of {', '.join(FAULTS)}, found {fault!r}")
        with self._lock:
            self._faults["/" + uri.removeprefix("s3://")] = _Fault(fault, times)

    def heal(self) -> None:
        """Pass everything on from now."""
        with self._lock:
            self._faults.clear()

    def reads(self, uri: str) -> int:
        """Return how often an object was asked for with GET, whatever the answer."""
        with self._lock:
            return self._requests["GET", "/" + uri.removeprefix("s3://")]

    def fault_for(self, method: str, path: str) -> str | None:
        """Count one request; return the fault to answer it with."""
        with self._lock:
            self._requests[method, path] += 1
            if method not in ("GET", "HEAD"):
                return None
            for name, fault in self._faults.items():
                matches = path.startswith(name[:-1]) if name.endswith("*") else path == name
                if matches and fault.left > 0:
                    fault.left -= 1
                    return fault.kind
        return None

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: FaultProxy

    def _pass_on(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.faults.fault_for(self.command, path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in _ANSWERS:
            self._refuse(*_ANSWERS[fault])
            return
        if fault == "silent":
            self.close_connection = True
            self.faults.stopped.wait(self.faults.stall_s)
            return
        status, headers, content = self._upstream(body)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = len(content)
        if self.command == "HEAD":
            length = int(dict(headers).get("Content-Length", 0))
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault is None:
            self.wfile.write(content)
        else:
            self._break_off(fault, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        address = urlsplit(self.faults.upstream)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break_off(self, fault: str, content: bytes) -> None:
        self.close_connection = True
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if fault == "slow":
            self.faults.stopped.wait(self.faults.stall_s)
        elif fault == "trickle":
            ends = time.monotonic() + self.faults.stall_s
            while time.monotonic() < ends and not self.faults.stopped.wait(0.05):
                self.wfile.write(b"\0")
        elif fault == "reset":
            time.sleep(0.05)  # else the reset overtakes the half that was sent
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def handle(self) -> None:
        with suppress(ConnectionError, ValueError):  # the client hung up, or this end on purpose
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().finish()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@dataclass
class FaultyBucket:
    """A bucket behind a `FaultProxy`: `uri` is ``s3://bucket``."""

    uri: str
    proxy: FaultProxy


@pytest.fixture
def s3_faults(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBucket]:
    """An empty bucket that the environment leads to through a proxy that can fail.

    Import it beside the tests that use it: ``from tests.s3_faults import s3_faults``.
    """
    import boto3

    bucket = f"faulty-{uuid.uuid4().hex[:12]}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=bucket)
    proxy = FaultProxy(s3_server)
    environment = {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield FaultyBucket(f"s3://{bucket}", proxy)
    finally:
        proxy.close()
