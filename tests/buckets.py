"""A bucket on this machine: what Google's client libraries ask of Cloud Storage, in one process.

The JSON interface as far as gcsfs, tensorstore and google-cloud-storage use it; see `serve`. Every
object lives in memory. Preconditions (`ifGenerationMatch`) hold as they do in the cloud.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "bucket"


class Store:
    """The objects of one bucket: name -> (content, generation, time of the last change)."""

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int, datetime.datetime]] = {}
        self.requests: list[str] = []  # "GET /storage/v1/..."
        self.read_only = False
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._begun: dict[str, tuple[str, str | None, bytearray]] = {}

    def empty(self) -> None:
        self.objects.clear()
        self.requests.clear()
        self.read_only = False

    def put(self, name: str, content: bytes, match: str | None = None) -> bool:
        """Whether the precondition held."""
        with self._lock:
            if match is not None and int(match) != self.generation(name):
                return False
            now = datetime.datetime.now(datetime.UTC)
            self.objects[name] = (bytes(content), next(self._numbers), now)
            return True

    def generation(self, name: str) -> int:
        return self.objects[name][1] if name in self.objects else 0

    def begin(self, name: str, match: str | None) -> str:
        """A resumable upload."""
        number = str(next(self._numbers))
        self._begun[number] = (name, match, bytearray())
        return number

    def part(self, number: str, content: bytes, last: bool) -> tuple[str, bool]:
        name, match, so_far = self._begun[number]
        so_far += content
        return name, not last or self.put(name, bytes(so_far), match)

    def facts(self, name: str) -> dict[str, Any]:
        content, generation, when = self.objects[name]
        return {
            "kind": "storage#object",
            "bucket": BUCKET,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "timeCreated": when.isoformat().replace("+00:00", "Z"),
            "updated": when.isoformat().replace("+00:00", "Z"),
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, code: int, body: bytes | dict = b"", **headers: str) -> None:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json; charset=UTF-8"
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, code: int, why: str) -> None:
        self._answer(code, {"error": {"code": code, "message": why, "errors": []}})

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        self.store.requests.append(f"{self.command} {self.path}")
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        path = re.sub(r"^/(upload/|download/|resumable/)?storage/v1", "", url.path)
        if not re.match(rf"/b/{BUCKET}(/|$)", path):
            return self._fail(404, "The specified bucket does not exist.")
        if self.store.read_only and self.command not in ("GET", "HEAD"):
            return self._fail(403, "does not have storage.objects.create access")
        inside = path.removeprefix(f"/b/{BUCKET}").lstrip("/")
        if url.path.startswith("/upload/"):
            return self._upload(query, body)
        if not inside:
            return self._answer(200, {"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        if inside == "o":
            return self._list(query)
        return self._object(inside.removeprefix("o/"), query)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _respond

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content

    def _object(self, quoted: str, query: dict[str, str]) -> None:
        store = self.store
        move = re.fullmatch(r"(.+)/(rewriteTo|copyTo|moveTo)/(?:b/[^/]+/)?o/(.+)", quoted)
        name = urllib.parse.unquote(move[1] if move else quoted)
        if name not in store.objects:
            return self._fail(404, f"No such object: {BUCKET}/{name}")
        if move:
            target = urllib.parse.unquote(move[3])
            store.put(target, store.objects[name][0])
            if move[2] == "moveTo":
                del store.objects[name]
            facts = store.facts(target)
            copied = {"done": True, "resource": facts} if move[2] == "rewriteTo" else facts
            return self._answer(200, copied)
        if self.command == "DELETE":
            match = query.get("ifGenerationMatch")
            if match is not None and int(match) != store.generation(name):
                return self._fail(412, "conditionNotMet")
            store.objects.pop(name, None)
            return self._answer(204)
        if query.get("alt") != "media":
            return self._answer(200, store.facts(name))
        return self._content(name, query)

    def _content(self, name: str, query: dict[str, str]) -> None:
        content, generation, _ = self.store.objects[name]
        if query.get("ifGenerationNotMatch") == str(generation):
            return self._answer(304)
        if query.get("ifGenerationMatch") not in (None, str(generation)):
            return self._fail(412, "conditionNotMet")
        marks = {"x_goog_generation": str(generation), "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not asked or not len(content):
            return self._answer(200, content, **marks)
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(int(last) + 1 if first and last else len(content), len(content))
        if start >= len(content):
            return self._answer(416, Content_Range=f"bytes */{len(content)}", **marks)
        told = f"bytes {start}-{end - 1}/{len(content)}"
        return self._answer(206, content[start:end], Content_Range=told, **marks)

    def _list(self, query: dict[str, str]) -> None:
        prefix, mark = query.get("prefix", ""), query.get("delimiter", "")
        found, folders = [], []
        for name in sorted(self.store.objects):
            if not name.startswith(prefix) or name < query.get("startOffset", ""):
                continue
            if query.get("endOffset") and name >= query["endOffset"]:
                continue
            rest = name[len(prefix) :]
            if mark and mark in rest:
                folder = prefix + rest.partition(mark)[0] + mark
                folders += [] if folder in folders else [folder]
            else:
                found.append(name)
        most = int(query.get("maxResults") or 1000)
        start = int(query.get("pageToken") or 0)
        page = {"kind": "storage#objects", "prefixes": folders}
        page["items"] = [self.store.facts(name) for name in found[start : start + most]]
        if len(found) > start + most:
            page["nextPageToken"] = str(start + most)
        self._answer(200, page)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        store, name, match = self.store, query.get("name"), query.get("ifGenerationMatch")
        kind, number = query.get("uploadType"), query.get("upload_id")
        if number:
            span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
            last = span[3] != "*" and (span[2] is None or int(span[2]) + 1 == int(span[3]))
            name, held = store.part(number, body, last)
            if not last:
                return self._answer(308, Range=f"bytes=0-{span[2]}")
        elif kind == "resumable":
            name = name or json.loads(body)["name"]
            number = store.begin(name, match)
            where = f"http://{self.headers['Host']}{urllib.parse.urlsplit(self.path).path}"
            return self._answer(200, {}, Location=f"{where}?upload_id={number}")
        elif kind == "multipart":
            mark = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])[1].encode()
            _, head, content, _ = body.split(b"--" + mark, 3)
            name = json.loads(head[re.search(rb"\r?\n\r?\n", head).end() :])["name"]
            start = re.search(rb"\r?\n\r?\n", content).end()
            content = content[start:].removesuffix(b"\n").removesuffix(b"\r")
            held = store.put(name, content, match)
        else:
            held = store.put(name, body, match)
        if not held:
            return self._fail(412, "conditionNotMet")
        self._answer(200, store.facts(name))


@contextlib.contextmanager
def serve() -> Iterator[tuple[Store, dict[str, str]]]:
    """A bucket `gs://bucket`, and the environment variables that lead the libraries to it."""
    handler = type("Handler", (Handler,), {"store": Store()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    variables = {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "a token",
        "GOOGLE_CLOUD_PROJECT": "project",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks another service, by gRPC
        "NO_GCE_CHECK": "true",
    }
    server.handle_error = lambda *_: None  # clients that hang up in the middle
    try:
        yield handler.store, variables
    finally:
        server.shutdown()
        server.server_close()
