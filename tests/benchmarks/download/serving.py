"""A real web server on this machine: it serves parts of files, and fails as networks do."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves the files in a folder.

    :param folder: what is served.
    """

    def __init__(self, folder):
        self.folder = folder
        self.requests = []  # (name, Range header or None)
        self.cut_after = None  # bytes, after which the connection closes; of every answer
        self.ranges = True  # whether parts of files are served
        self.length = None  # what the server says of it, if not the truth
        self.kind = "application/octet-stream"

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler):
        name, wanted = handler.path.lstrip("/"), handler.headers.get("Range")
        self.requests.append((name, wanted))
        file = self.folder / name
        if not file.is_file():
            handler.send_error(404)
            return
        content = file.read_bytes()
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else None
        if start is not None and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(200 if start is None else 206)
        if start is not None:
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_header("Content-Range", place)
        body = content[start or 0 :]
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", self.length or str(len(body)))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(body[: self.cut_after])
