"""The page and the metrics: whole in themselves."""

import base64
import hashlib
import re
from html.parser import HTMLParser

from pistar.serve.metrics import Metrics
from pistar.serve.page import assembled


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_runs_only_its_own_script(pole):
    answer = pole.ask("GET", "/")
    text, policy = answer.body.decode(), answer.headers["content-security-policy"]
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    tags = Tags()
    tags.feed(text)
    for tag, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target == "data:," or target.startswith("/"), target
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^$\s\"]+", text)


def test_what_a_policy_says_of_itself_never_becomes_markup():
    script = assembled()[0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_every_element_that_the_script_asks_for_is_on_the_page():
    text = assembled()[0]
    wanted = set(re.findall(r"\$\(\"([\w-]+)\"\)", text))
    assert wanted
    assert wanted <= set(re.findall(r'id="([\w-]+)"', text))


LINE = re.compile(r'[a-z_]+(\{[a-z_0-9]+="[^"\n]*"(,[a-z_0-9]+="[^"\n]*")*\})? -?[0-9.e+-]+$')


def test_metrics_are_prometheus_text_and_true(files):
    from .running import running

    with running(files("pole")) as service:
        for _ in range(3):
            service.act(observation=[0.0] * 4)
        service.act(observations=[[0.0] * 4] * 5)
        service.act(observation=[0.0])
        service.ask("GET", "/v1/sessions/anything")
        text = service.ask("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.match(line) for line in lines), [line for line in lines if not LINE.match(line)]
    assert 'pistar_requests_total{route="/v1/act",status="200"} 4' in lines
    assert 'pistar_requests_total{route="/v1/act",status="422"} 1' in lines
    assert 'pistar_requests_total{route="/v1/sessions/{session}",status="405"} 1' in lines
    assert "pistar_observations_total 8" in lines
    assert 'pistar_request_seconds_bucket{le="+Inf"} 6' in lines
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} >= {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
    }


def test_buckets_add_up():
    metrics = Metrics()
    for seconds in (0.00005, 0.0001, 0.00011, 0.3, 50.0):
        metrics.count("/v1/act", 200, seconds)
    counts = {
        line.partition('le="')[2].partition('"')[0]: int(line.rpartition(" ")[2])
        for line in metrics.text({}, {"task": 'a"b\\c\nd'}).splitlines()
        if line.startswith("pistar_request_seconds_bucket")
    }
    assert (counts["0.0001"], counts["0.0002"], counts["0.5"], counts["10.0"], counts["+Inf"]) == (2, 3, 4, 4, 5)
    assert 'pistar_policy_info{task="a\\"b\\\\c\\nd"} 1' in metrics.text({}, {"task": 'a"b\\c\nd'})
