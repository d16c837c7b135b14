"""The page over HTTP, for browsers on this machine alone: GET only, our own host name only, nothing by path."""

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

from kdviz.base.check import KdvizError
from kdviz.viewer.answers import JSON, Answer, Answers, refusal
from kdviz.viewer.library import Library
from kdviz.viewer.page import HTML, page

LOOPBACK = "127.0.0.1"
# A page that kdviz wrote earlier may hold scripts: it runs in an origin of its own, from which ours cannot be read.
FOREIGN = "sandbox allow-scripts allow-popups"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1.

    Args:
        library: what it shows.
        port: 0 takes a free one.
    Raises: KdvizError where the port is taken or not allowed.
    """

    daemon_threads = True

    def __init__(self, library: Library, port: int = 0) -> None:
        self.answers = Answers(library, ahead=True)
        self.document = page().encode("utf-8")
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise KdvizError(f"--port {port}: {said}; leave it out, and a free one is taken") from error
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer a request that comes from our own page, or is typed into the browser."""
        if self._from_elsewhere():
            self._send(403, Answer(JSON, b'{"error": "only pages of this server may ask"}'))
            return
        asked = urlsplit(self.path)
        if asked.path == "/":
            self._send(200, Answer(HTML, self.server.document))
            return
        try:
            self._send(200, self.server.answers.get(asked.path, dict(parse_qsl(asked.query))))
        except (KdvizError, LookupError) as error:
            self._send(*refusal(error))
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the page says it; the server goes on
            self._send(500, Answer(JSON, _fault(error)))

    def _from_elsewhere(self) -> bool:
        """Whether another site is behind the request: by another name for this address (DNS rebinding), or by a script
        or picture of its own. A link to the page from elsewhere is a navigation, and allowed."""
        if self.headers.get("Host") not in self.server.hosts:
            return True
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            return True
        site, mode = self.headers.get("Sec-Fetch-Site"), self.headers.get("Sec-Fetch-Mode")
        return site in ("cross-site", "same-site") and mode != "navigate"

    def _refuse(self) -> None:
        self.close_connection = True  # what follows in the request is not read
        self._send(405, Answer(JSON, b'{"error": "GET only"}'))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = _refuse

    def _send(self, status: int, answer: Answer) -> None:
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
        same = status == 200 and self.headers.get("If-None-Match") == tag
        self.send_response(304 if same else status)
        headers = {**HEADERS, "Content-Type": answer.type, "ETag": tag, "Cache-Control": "no-cache"}
        if answer.file:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(answer.file)}"
        if answer.foreign:
            headers["Content-Security-Policy"] = FOREIGN
        if status == 405:
            headers |= {"Allow": "GET", "Connection": "close"}
        body = b"" if same or self.command == "HEAD" else answer.body
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the user's."""


def _fault(error: Exception) -> bytes:
    import json

    return json.dumps({"error": f"unexpected {type(error).__name__}: {str(error)[:200]}"}).encode()
