"""The page as a person meets it, in headless Chromium: needs Chromium and playwright, and is skipped where they are not."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .running import Running, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
TOKEN = "a-token-of-some-length"


@contextmanager
def opened(service: Running, width: int = 1200) -> Iterator[Any]:
    """The page; nothing but the service may have been asked, and no script have failed."""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        faults, asked = list[str](), list[str]()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(service.address)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert faults == []
    assert [url for url in asked if not url.startswith((service.address, "data:"))] == []


def test_an_observation_is_typed_and_dragged_and_its_action_shown(files):
    with running(files("pole")) as service, opened(service) as page:
        for typed in ("2.5", "-2.5"):
            page.fill("#entry-0", typed)
            page.press("#entry-0", "Tab")
            wanted = service.act(observation=[float(typed), 0, 0, 0], distribution=True).json
            likely = f"{100 * wanted['distribution'][0]['parameters']['probability'][1]:.1f} %"
            page.wait_for_function(
                "words => document.querySelectorAll('.bar')[1].innerText.includes(words)", arg=likely
            )
            assert page.inner_text("#action") == str(wanted["action"])
        page.eval_on_selector("input[type=range]", "e => { e.value = 1.5; e.dispatchEvent(new Event('input')); }")
        assert page.input_value("#entry-0") == "1.5"
        page.click("summary")
        page.fill("#json", "[1, 2, 3]")
        page.click("#use-json")
        page.wait_for_selector("#fault:not([hidden])")
        assert "expected: numbers of shape (4,)" in page.inner_text("#fault")


def test_the_task_is_played_and_the_phone_shows_it_whole(files):
    with running(files("cartpole"), play=True) as service, opened(service, 360) as page:
        page.click("#play")
        page.wait_for_function("() => document.getElementById('score').innerText.startsWith('Step 3')", timeout=30_000)
        page.click("#play")
        assert page.eval_on_selector("#frame", "e => e.naturalWidth") > 100


def test_the_token_is_asked_for(files):
    with running(files("memory"), token=TOKEN) as service, opened(service) as page:
        page.fill("#token", "another")
        page.press("#token", "Enter")
        page.wait_for_function("() => document.getElementById('facts').innerText.includes('not its token')")
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        page.click("#act")
        page.wait_for_function("() => document.getElementById('action').innerText !== '–'")


AREA = """([family, parameters, scale]) => {
  const { density, low, high, left, right } = curve(family, parameters, scale, 0, 0), n = 20000, h = (high - low) / n;
  let sum = left + right;
  for (let i = 0; i < n; i++) sum += h * density(low + h * (i + 0.5));
  return sum;
}"""
SCALE = {"squash": False, "centre": [1.0], "half_range": [3.0], "low": [-2.0], "high": [4.0]}


def test_what_is_drawn_is_a_distribution(pole):
    with opened(pole) as page:
        for family, parameters, scale in (
            ("gaussian", {"mean": 0.8, "std": 0.5}, SCALE),
            ("gaussian", {"mean": -5.0, "std": 0.3}, SCALE),
            ("gaussian", {"mean": 0.2, "std": 2.0}, {**SCALE, "low": ["-inf"], "high": ["inf"]}),
            ("squashed-gaussian", {"mean": 0.4, "std": 0.7}, {**SCALE, "squash": True}),
            ("beta", {"alpha": 2.5, "beta": 1.5}, SCALE),
        ):
            assert page.evaluate(AREA, [family, parameters, scale]) == pytest.approx(1.0, abs=2e-3), family
