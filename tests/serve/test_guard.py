"""Who is let in, and what cannot be had."""

import time

import pytest

from pistar.errors import UsageError
from pistar.serve import server
from pistar.serve.guard import hostname
from pistar.serve.settings import TOKEN as VARIABLE
from pistar.serve.settings import Service

from .running import running

TOKEN = "a-token-of-some-length"
BODY = {"observation": [0.0] * 4}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]"])
def test_a_foreign_name_for_this_machine_is_refused(pole, host):
    answer = pole.ask("POST", "/v1/act", BODY, {"host": host})
    assert answer.status == 421
    assert "localhost" in answer.json["expected"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_loopback_names_are_answered(pole, host):
    assert pole.ask("POST", "/v1/act", BODY, {"host": host}).status == 200


def test_a_name_that_is_allowed_is_answered(files):
    with running(files("pole"), allowed_host=("pole.example",)) as service:
        assert service.ask("POST", "/v1/act", BODY, {"host": "pole.example:443"}).status == 200
        assert service.ask("POST", "/v1/act", BODY, {"host": "example"}).status == 421


def test_pages_of_other_origins_are_refused_and_the_own_one_is_not(pole):
    own = f"127.0.0.1:{pole.port}"
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert pole.ask("POST", "/v1/act", BODY, headers).status == 403, headers
    assert pole.ask("POST", "/v1/act", BODY, {"origin": f"http://{own}", "sec-fetch-site": "same-origin"}).status == 200
    answer = pole.ask("OPTIONS", "/v1/act", headers={"origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_that_a_form_could_send_is_refused(pole, kind):
    assert pole.ask("POST", "/v1/act", b'{"observation": [0, 0, 0, 0]}', {"content-type": kind}).status == 415


def test_a_token_is_needed_for_everything_but_the_page_and_health(files):
    with running(files("pole"), token=TOKEN) as service:
        for method, path in (
            ("POST", "/v1/act"),
            ("GET", "/v1/policy"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("POST", "/v1/sessions"),
            ("GET", "/nothing"),
        ):
            body = BODY if method == "POST" else None
            for given in (
                {},
                {"authorization": TOKEN},
                {"authorization": f"Bearer {TOKEN}x"},
                {"authorization": f"Basic {TOKEN}"},
            ):
                answer = service.ask(method, path, body, given)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert TOKEN.encode() not in answer.body
            assert service.ask(method, path, body, {"authorization": f"Bearer {TOKEN}"}).status != 401
        assert service.ask("GET", "/").status == 200
        assert service.ask("GET", "/healthz").json == {"status": "ok"}
        elsewhere = {"authorization": f"bearer {TOKEN}", "host": "any.example"}
        assert service.ask("POST", "/v1/act", BODY, elsewhere).status == 200  # the token decides, not the name


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/v1/act/",
        "/v1//act",
        "/v1/policy/../../x",
        "/v1/act%00",
        "/page.js",
        "/\\..\\..\\x",
        "/v1/sessions/..%2f..%2fetc%2fpasswd",
        "/" + "a" * 5000,
    ],
)
def test_no_path_leads_anywhere_else(pole, path):
    answer = pole.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert int(answer[9:12]) in (400, 404, 405)
    assert b"root:" not in answer
    assert b'{"error":' in answer


def test_methods_that_a_path_does_not_have(pole):
    for method, path in (
        ("GET", "/v1/act"),
        ("PUT", "/v1/act"),
        ("POST", "/v1/policy"),
        ("TRACE", "/"),
        ("GET", "/v1/sessions"),
    ):
        answer = pole.ask(method, path)
        assert answer.status == 405
        assert answer.headers["allow"]


def test_oversized_bodies_are_refused_declared_or_not(files):
    with running(files("pole"), max_body=1000) as service:
        assert service.ask("POST", "/v1/act", b"x" * 1000).status == 400
        for size in (1001, 50_000, 3_000_000):
            answer = service.ask("POST", "/v1/act", b"x" * size)
            assert answer.status == 413
            assert "1000 bytes" in answer.json["expected"]
        head = b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = service.raw(head + b"400\r\n" + b" " * 1024 + b"\r\n0\r\n\r\n", seconds=1.0)
        assert answer.startswith(b"HTTP/1.1 413")
        assert service.ask("POST", "/v1/act", BODY).status == 200


# ---- connections -----------------------------------------------------------------------------------------------------


def test_requests_that_do_not_arrive_end(files):
    head = b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with running(files("pole"), timeout=0.5) as service:
        began = time.monotonic()
        assert service.raw(b"") == b""
        assert service.raw(b"POST /v1/act HT").startswith(b"HTTP/1.1 408")
        assert service.raw(head).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 8
        assert service.ask("POST", "/v1/act", BODY).status == 200


def test_heads_that_never_end_are_refused(pole):
    endless = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100_000
    pieces = [endless[:60_000], endless[:40_000][-20_000:], b"a" * 50_000]
    assert b"431" in pole.raw(*pieces)[:12]
    assert (
        b"431"
        not in pole.raw(b"\r\n" * 50_000 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[
            :12
        ]
    )
    assert pole.raw(b"\x16\x03\x01 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_connections_beyond_the_limit_are_told(files):
    import socket

    with running(files("pole"), connections=3) as service:
        held = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(3)]
        time.sleep(0.2)
        answer = service.ask("POST", "/v1/act", BODY)
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        for each in held:
            each.close()
        time.sleep(0.2)
        assert service.ask("POST", "/v1/act", BODY).status == 200


# ---- addresses and tokens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(host):
    server.require_safe(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8", "::ffff:8.8.8.8"])
def test_every_other_address_does(host):
    with pytest.raises(UsageError, match="PISTAR_SERVE_TOKEN"):
        server.require_safe(host, None)
    server.require_safe(host, TOKEN)


def test_where_the_token_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert server.find_token(Service()) is None
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert server.find_token(Service()) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}-of-the-file\n")
    assert server.find_token(Service(token_file=str(file))) == f"{TOKEN}-of-the-file"
    for weak in ("", "short", "with spaces within it", "não-é-ascii-mas-é-longo"):
        monkeypatch.setenv(VARIABLE, weak)
        with pytest.raises(UsageError, match="token_urlsafe") as refused:
            server.find_token(Service())
        assert not weak or weak not in str(refused.value)
    with pytest.raises(UsageError, match="cannot read"):
        server.find_token(Service(token_file=str(tmp_path / "none")))


def test_names_in_host_headers():
    assert [hostname(h) for h in (b"a:80", b"A", b"[::1]:80", b"[::1]", b"a.:80", b":80", b"")] == [
        "a",
        "a",
        "[::1]",
        "[::1]",
        "a",
        ":80",
        "",
    ]
