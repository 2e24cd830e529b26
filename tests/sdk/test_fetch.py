from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from visionllm_sdk.errors import ImageError
from visionllm_sdk.fetch import UrlPolicy, fetch, is_url
from visionllm_sdk.images import ImageLimits, load_image

TRUSTED = UrlPolicy(allow_private=True, timeout=5)
MEBIBYTE = 2**20


def png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (6, 4), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers by path: a picture, something else, redirects, floods."""

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?to=")
        answers: dict[str, Any] = {
            "/image": lambda: self.answer(png(), "image/png; charset=binary"),
            "/bytes": lambda: self.answer(png(), "application/octet-stream"),
            "/page": lambda: self.answer(b"<html>", "text/html"),
            "/untyped": lambda: self.answer(png(), None),
            "/missing": lambda: self.answer(b"", "image/png", 404),
            "/packed": lambda: self.answer(png(), "image/png", encoding="gzip"),
            "/host": lambda: self.answer(self.headers["Host"].encode(), "image/png"),
            "/redirect": lambda: self.answer(b"", None, 302, location=target),
            "/loop": lambda: self.answer(b"", None, 302, location="/loop"),
            "/flood": self.flood,
            "/drip": self.drip,
        }
        answers[path]()

    def answer(
        self, body: bytes, kind: str | None, status: int = 200, location: str = "", encoding: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Location", location), ("Content-Encoding", encoding)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def flood(self) -> None:
        """More than any limit, without saying how much."""
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        try:
            for _ in range(64):
                self.wfile.write(bytes(MEBIBYTE))
        except OSError:
            return  # the client hung up, as it should

    def drip(self) -> None:
        """A few bytes now and then, so that no single read times out."""
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        try:
            for _ in range(50):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every host name lead to these addresses."""
    found = [ipaddress.ip_address(address) for address in addresses]
    monkeypatch.setattr("visionllm_sdk.fetch._resolve", lambda _: found)


def test_what_is_a_url() -> None:
    assert is_url("https://example.com/a.png")
    assert is_url("file:///etc/passwd")
    assert not is_url("/home/a.png")
    assert not is_url("images/a.png")
    assert not is_url("a b://c")


@pytest.mark.parametrize("path", ["/image", "/bytes", "/image#part"])
def test_image_from_a_trusted_server(server: str, path: str) -> None:
    loaded = load_image(server + path, allow_urls=TRUSTED)
    assert (loaded.width, loaded.height) == (6, 4)
    assert loaded.source.startswith(server)


def test_query_stays_out_of_names(server: str) -> None:
    _, name = fetch(f"{server}/redirect?to=/image", policy=TRUSTED, max_bytes=MEBIBYTE)
    assert name == f"{server}/image"
    with pytest.raises(ImageError) as caught:
        fetch(f"{server}/missing?to=secret-token", policy=TRUSTED, max_bytes=MEBIBYTE)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("/page", "not an image"),
        ("/untyped", "not an image"),
        ("/missing", "status 404"),
        ("/packed", "compressed"),
        ("/loop", "too many redirects"),
        ("/redirect?to=file:///etc/passwd", "only http and https"),
        ("/redirect?to=ftp://example.com/a.png", "only http and https"),
        ("/redirect?to=http://user:word@example.com/", "credentials"),
    ],
)
def test_answers_that_are_refused(server: str, path: str, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        load_image(server + path, allow_urls=TRUSTED)


def test_size_is_bounded_while_reading(server: str) -> None:
    with pytest.raises(ImageError, match="download is too large"):
        load_image(f"{server}/flood", allow_urls=TRUSTED, limits=ImageLimits(max_bytes=MEBIBYTE))


def test_time_is_bounded_over_the_whole_download(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(ImageError, match="takes too long"):
        load_image(f"{server}/drip", allow_urls=UrlPolicy(allow_private=True, timeout=0.5))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(ImageError, match=r"not public|unknown"):
        load_image(f"http://{host}:9/a.png", allow_urls=True)


def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(ImageError, match="not public") as caught:
        load_image("http://innocent.example/a.png", allow_urls=True)
    assert "10.0.0.1" not in str(caught.value)


def test_redirect_inside_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host is public (as far as the resolver says), the redirect leads to this machine."""
    port = server.rpartition(":")[2]
    resolve_to(monkeypatch, "127.0.0.1")
    public = UrlPolicy(timeout=5)
    checked: list[str] = []

    def seems_public(address: Any) -> bool:
        checked.append(str(address))
        return len(checked) == 1

    monkeypatch.setattr("visionllm_sdk.fetch._is_public", seems_public)
    with pytest.raises(ImageError, match="not public"):
        fetch(f"http://public.example:{port}/redirect?to=/image", policy=public, max_bytes=MEBIBYTE)
    assert checked == ["127.0.0.1", "127.0.0.1"]


def test_connection_goes_to_the_checked_address(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is resolved once; the server still sees the name it is asked for."""
    port = server.rpartition(":")[2]
    names: list[str] = []

    def resolve(host: str) -> list[ipaddress.IPv4Address]:
        names.append(host)
        return [ipaddress.IPv4Address("127.0.0.1" if len(names) == 1 else "127.0.0.2")]

    monkeypatch.setattr("visionllm_sdk.fetch._resolve", resolve)
    data, _ = fetch(f"http://pictures.example:{port}/host", policy=TRUSTED, max_bytes=MEBIBYTE)
    assert data == f"pictures.example:{port}".encode()
    assert names == ["pictures.example"]


def test_next_address_is_tried(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.rpartition(":")[2]
    resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1")
    data, _ = fetch(f"http://pictures.example:{port}/image", policy=TRUSTED, max_bytes=MEBIBYTE)
    assert data == png()


def test_list_of_hosts(server: str) -> None:
    listed = UrlPolicy(hosts=frozenset({"127.0.0.1"}), allow_private=True)
    assert load_image(f"{server}/image", allow_urls=listed).width == 6
    with pytest.raises(ImageError, match="not on the list"):
        load_image(
            f"{server}/image", allow_urls=UrlPolicy(hosts=frozenset({"example.com"}), allow_private=True)
        )


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("gopher://example.com/", "only http and https"),
        ("http:///nothing", "only http and https"),
        ("http://nowhere.invalid/a.png", "unknown"),
        ("http://user:word@example.com/a.png", "credentials"),
        ("http://127.0.0.1:1/a.png", "cannot be fetched"),
        ("http://exa mple.com:port/", "cannot be fetched|unknown"),
    ],
)
def test_urls_that_lead_nowhere(url: str, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        load_image(url, allow_urls=TRUSTED)
    assert "word" not in str(caught.value)
