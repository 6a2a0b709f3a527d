"""The browser page, in headless Chromium: onnxruntime-web gives the numbers that onnxruntime gives, and the page shows them.

Needs Chromium, playwright and the npm package onnxruntime-web, which are not among what pistar's tests install: where
PISTAR_ONNXRUNTIME_WEB names the package's dist/ folder, they must be there.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies_to_export import exported, look

DIST = os.environ.get("PISTAR_ONNXRUNTIME_WEB")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PAGE = Path(__file__).parents[2] / "docs" / "examples" / "browser" / "index.html"
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
NAMES = ["family gaussian", "family beta", "family gsde", "memory gru", "memory lstm", "masked", "features one-hot"]

pytestmark = pytest.mark.skipif(DIST is None, reason="PISTAR_ONNXRUNTIME_WEB names no dist/ of onnxruntime-web")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("site")
    shutil.copy(PAGE, folder)
    for name in FILES:
        shutil.copy(Path(str(DIST)) / name, folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page()
        faults: list[str] = []
        asked: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        yield opened
        browser.close()
        assert faults == []
        assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{server.server_port}/", "data:"))] == []
    server.shutdown()
    server.server_close()


INFER = """async feeds => {
  const given = Object.fromEntries(about.inputs.map(port => {
    const [rows, numbers] = feeds[port.name], big = port.dtype === "int64";
    return [port.name, new ort.Tensor(port.dtype, ARRAYS[port.dtype].from(numbers, big ? BigInt : undefined), [rows, ...port.shape])];
  }));
  const found = await session.run(given);
  return Object.fromEntries(Object.entries(found).map(([name, x]) => [name, Array.from(x.data, Number)]));
}"""


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers(name: str, page: Any, tmp_path: Path) -> None:
    _, reader, data = exported(name)
    (tmp_path / "policy.onnx").write_bytes(data)
    page.set_input_files("#file", tmp_path / "policy.onnx")
    page.wait_for_selector("#action output")
    rows, generator = 500, np.random.default_rng(0)
    _, seen = reader.encode(look(reader.spaces.observation, rows, generator))
    held = {key: generator.normal(size=x.shape).astype(x.dtype) for key, x in reader.initial_memory(rows).items()}
    feeds = {**seen, **held, **reader.draw_noise(rows, generator)}
    if reader.has_memory:
        feeds["is_first"] = generator.random(rows) < 0.2
    wanted = reader.infer(feeds)
    found = page.evaluate(INFER, {key: [rows, x.reshape(-1).astype(float).tolist()] for key, x in feeds.items()})
    for port in reader.outputs:
        x = np.reshape(found[port.name], wanted[port.name].shape)
        if port.dtype.startswith("float"):
            np.testing.assert_allclose(x, wanted[port.name], rtol=1e-5, atol=1e-5, err_msg=port.name)
        else:
            assert np.mean(x != wanted[port.name]) <= 0.004, port.name


def test_the_page_shows_what_the_policy_does(page: Any, tmp_path: Path) -> None:
    _, reader, data = exported("masked")
    (tmp_path / "policy.onnx").write_bytes(data)
    page.set_input_files("#file", tmp_path / "policy.onnx")
    page.wait_for_function("document.querySelectorAll('#inputs .row').length === 6")
    for key, value in {"seen 0": 99.0, "seen 1": 104.5, "seen 2": 101.0, "mask 1": 1.0}.items():
        page.fill(f"input[type=number][aria-label='{key}']", str(value))
    observation = {"seen": [99.0, 104.5, 101.0], "mask": [0, 1, 0]}
    page.wait_for_function("document.querySelectorAll('#distribution .number')[1].textContent === '1.000'")
    assert page.inner_text("#action output") == str(reader.act(observation)[0]) == "1"
    assert page.inner_text("#title") == "pendulum"


def test_what_is_no_policy_is_said(page: Any, tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\x08\x07nonsense", exported("masked")[2][:500])):
        (tmp_path / f"{number}.onnx").write_bytes(data)
        page.set_input_files("#file", tmp_path / f"{number}.onnx")
        page.wait_for_function(f"document.querySelector('#error').textContent.includes('Cannot use {number}.onnx')")
        assert not page.is_visible("#policy")
