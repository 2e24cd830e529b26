"""Pictures, messages, and a web server of this machine."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

import visionllm_sdk.images
from tests.sdk.conftest import drawing_changes, pose_sections, write_random_checkpoint
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.sessions import Sessions


def drawn(seed: int = 0, width: int = 72, height: int = 56) -> Image.Image:
    """A scene with a red disc at a place that the seed decides."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 235, dtype=np.uint8)
    x, y = 20 + 7 * (seed % 5), 18 + 5 * (seed % 4)
    pixels[(rows - y) ** 2 + (columns - x) ** 2 < 100] = (220, 30, 40)
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    """The picture as a file."""
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def base64_png(image: Image.Image) -> str:
    """The picture as the text of an image block."""
    return base64.b64encode(png(image)).decode()


def asking(text: str, *images: Image.Image) -> HumanMessage:
    """A human message with pictures."""
    blocks = [{"type": "image", "base64": base64_png(one), "mime_type": "image/png"} for one in images]
    return HumanMessage([*blocks, {"type": "text", "text": text}])


@pytest.fixture(autouse=True)
def own_conversations(request: pytest.FixtureRequest) -> None:
    """No test finds the images that another one left in a thread of the same name.

    But for the library's suites, which are classes that share what they have set up.
    """
    if request.cls is not None:
        return
    for name in {"vlm", "random_vlm", "whole_vlm"} & set(request.fixturenames):
        request.getfixturevalue(name).workspace.sessions = Sessions()


@pytest.fixture
def scene() -> Image.Image:
    """One picture."""
    return drawn()


@pytest.fixture
def ask() -> Callable[..., HumanMessage]:
    """Makes human messages with pictures."""
    return asking


@pytest.fixture(scope="session")
def whole_vlm(tmp_path_factory: pytest.TempPathFactory) -> VisionLLM:
    """A model with random weights that has every part: detector, poses, regions, drawing and editing."""
    from visionllm_sdk import VisionLLM

    changes = {**drawing_changes(), **pose_sections()}
    folder = write_random_checkpoint(tmp_path_factory.mktemp("whole"), changes=changes)
    return VisionLLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def picture_server() -> Iterator[str]:
    """Address of a server of this machine that answers every path with a picture."""
    body = png(drawn(3))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def local_web(picture_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Requests to the web reach the server of this machine instead."""
    real_get, real_fetch = httpx.get, visionllm_sdk.images.fetch

    def get(url: str, **options: object) -> httpx.Response:
        return real_get(f"{picture_server}/{httpx.URL(url).path}", trust_env=False)

    def fetch(url: str, **options: object) -> tuple[bytes, str]:
        return real_fetch(f"{picture_server}/{httpx.URL(url).path}", **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr(visionllm_sdk.images, "fetch", fetch)
    return picture_server
