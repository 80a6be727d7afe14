"""Access control: allow-list, access token, proxy secret; refusals to start."""

import http.client
import os
import re
import shlex
import subprocess
import sys

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from streamlit.testing.v1 import AppTest
from test_serve import free_port, is_healthy

from benchmarks.dashboard import APP, served
from pages.server import middleware
from prune_core import PruneError, access
from prune_core.access import Access, AllowList
from prune_core.cli.arguments import main
from prune_core.paths import ROOT
from prune_core.queue import jobs
from prune_core.store.store import Store

LOGIN = '[auth]\nserver_metadata_url = "{}"\n'
GOOGLE = "https://accounts.google.com/.well-known/openid-configuration"
TOKEN = "a-token-that-nobody-can-guess-0123456789"
SETTINGS = (
    access.ALLOW,
    access.GROUPS_CLAIM,
    access.CONTACT,
    access.USER_HEADER,
    access.SECRET_FILE,
    access.SECRET_HEADER,
    access.NO_TOKEN,
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """Remove environment variables and the login of the user who runs the tests."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *_, **__: None)


def refusal(capsys, *flags):
    """Return the message with which `serve` refuses these flags.

    If they were accepted, a later check would fail.
    """
    assert main(["serve", *flags, "--root", "/no/such/folder"]) == 2
    message = capsys.readouterr().err
    assert "/no/such/folder" not in message
    return message


def set_up_login(tmp_path, url=GOOGLE):
    (tmp_path / ".streamlit").mkdir(exist_ok=True)
    (tmp_path / ".streamlit" / "secrets.toml").write_text(LOGIN.format(url))


# -- allow-list ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("ada@lab.org", "ada@lab.org"),
        ("ada@lab.org", "Ada@LAB.org"),
        ("Ada@Lab.Org", "ada@lab.org"),
        ("@lab.org", "ada@lab.org"),
        ("@LAB.org", "bob@Lab.ORG"),
        ("anyone", "eve@evil.org"),
    ],
)
def test_listed_addresses_and_domains_are_admitted(entry, address):
    assert AllowList((entry,)).admits({"email": address})


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("@lab.org", "ada@evil-lab.org"),
        ("@lab.org", "ada@lab.org.evil.com"),
        ("@lab.org", "ada@sub.lab.org"),
        ("@lab.org", "eve@evil.com@lab.org"),
        ("@lab.org", "lab.org"),
        ("@lab.org", "@lab.orgx"),
        ("@lab.org", ""),
        ("@lab.org", None),
        ("@kiwi.org", "eve@\u212aiwi.org"),
        ("ada@lab.org", "bada@lab.org"),
        ("ada@lab.org", "ada@lab.org "),
        ("group:ml-team", "group:ml-team"),
        ("group:ml-team", "ml-team"),
    ],
)
def test_similar_addresses_and_domains_are_refused(entry, address):
    assert not AllowList((entry,)).admits({"email": address})


@pytest.mark.parametrize("groups", [["staff", "ml-team"], "ml-team"])
def test_a_group_may_be_in_a_list_or_a_string(groups):
    listed = AllowList(("group:ml-team",), "roles")
    assert listed.admits({"email": "ada@lab.org", "roles": groups})
    assert listed.admits({"sub": "17", "roles": groups})


@pytest.mark.parametrize(
    "groups", [["ml-team-guests"], "ml-team guests", "ML-team", [], None, {"ml-team": 1}, 7]
)
def test_other_groups_are_refused(groups):
    assert not AllowList(("group:ml-team",)).admits({"email": "ada@lab.org", "groups": groups})


@pytest.mark.parametrize("entry", ["ada@lab.org", "@lab.org", "group:ml-team", "anyone"])
@pytest.mark.parametrize("unverified", [False, "false", "False", 0, ""])
def test_an_unverified_address_is_refused(entry, unverified):
    claims = {"email": "ada@lab.org", "groups": ["ml-team"]}
    assert AllowList((entry,)).admits(claims)
    assert AllowList((entry,)).admits({**claims, "email_verified": True})
    assert AllowList((entry,)).admits({**claims, "email_verified": "true"})
    assert not AllowList((entry,)).admits({**claims, "email_verified": unverified})


def test_an_empty_allow_list_admits_nobody():
    assert not AllowList().admits({"email": "ada@lab.org"})


@pytest.mark.parametrize(
    "entry", ["lab.org", "ada", "@", "ada@", "a@b@c", "ada @lab.org", "group:", "*"]
)
def test_a_malformed_entry_is_quoted_in_the_message(entry, capsys):
    assert repr(entry) in refusal(capsys, "--allow", entry)


# -- refusing to start --------------------------------------------------------------------------


def test_a_login_needs_an_allow_list_and_the_message_names_the_flags(tmp_path, capsys):
    set_up_login(tmp_path)
    message = refusal(capsys)
    assert "accounts.google.com" in message
    suggested = re.findall(r"--allow (\S+?)[,;. ]*(?=\s|$)", message)
    assert suggested == ["ada@lab.example.org", "@lab.example.org", "group:NAME", "anyone"]
    for entry in suggested:
        os.environ[access.ALLOW] = entry
        Access.from_environment().check()


@pytest.mark.parametrize("tenant", ["common", "organizations"])
def test_a_multi_tenant_microsoft_login_is_refused(tenant, tmp_path, capsys):
    url = "https://login.microsoftonline.com/{}/v2.0/.well-known/openid-configuration"
    set_up_login(tmp_path, url.format(tenant))
    message = refusal(capsys, "--allow", "@lab.org")
    assert f"replace {tenant} with your tenant's ID" in message
    set_up_login(tmp_path, url.format("8f8a9b3c-0000-0000-0000-000000000000"))
    Access.from_environment().check()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--allow", "@lab.org"], "set up a login"),
        (["--allow", "group:ml", "--user-header", "X-User"], "group:ml needs a login"),
        (["--proxy-secret-file", "FILE"], "--user-header"),
        (["--proxy-secret-file", "none", "--user-header", "X-User"], "no such file"),
    ],
)
def test_contradicting_flags_are_refused(flags, message, capsys):
    assert message in refusal(capsys, *flags)


def test_streamlit_run_refuses_a_login_without_an_allow_list_too(tmp_path):
    set_up_login(tmp_path)
    port = str(free_port())
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", port]
    process = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode
    assert process.stderr.startswith("PruneScope: The login at accounts.google.com")
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("mode", "text"),
    [(0o644, "secret"), (0o640, "secret"), (0o600, ""), (0o600, "\n"), (0o600, "two words")],
)
def test_a_proxy_secret_must_be_private_and_one_word(mode, text, tmp_path, capsys):
    file = tmp_path / "secret"
    file.write_text(text)
    file.chmod(mode)
    message = refusal(capsys, "--user-header", "X-User", "--proxy-secret-file", str(file))
    if mode != 0o600:
        assert f"mode {mode:o}" in message
        command = re.search(r"run (chmod 600 \S+)\.$", message.strip())[1]
        subprocess.run(shlex.split(command), check=True)
    else:
        command = re.search(r"python (-c '.+?' > \S+)$", message.strip())[1]
        subprocess.run(f"{shlex.quote(sys.executable)} {command}", shell=True, check=True)
    assert access.proxy_secret(file)


# -- access token -------------------------------------------------------------------------------


def test_the_token_is_private_and_reused(home):
    token = access.access_token(home)
    assert (home / "token").stat().st_mode & 0o777 == 0o600
    assert len(token) >= 43 and access.access_token(home) == token
    assert not list(home.glob("token.*"))


@pytest.mark.parametrize("damage", ["mode", "empty"])
def test_an_unsafe_token_file_is_refused_and_the_suggested_fix_works(damage, home):
    token = access.access_token(home)
    if damage == "mode":
        (home / "token").chmod(0o644)
    else:
        (home / "token").write_text("")
    with pytest.raises(
        PruneError, match=r"rm \S+token, and the next start makes a new one"
    ) as excinfo:
        access.access_token(home)
    subprocess.run(["rm", re.search(r"rm (\S+?),", str(excinfo.value))[1]], check=True)
    assert access.access_token(home) != token


def test_show_token_prints_the_address_of_a_store_that_has_one(home, capsys):
    assert main(["serve", "--show-token"]) == 2
    assert str(home) in capsys.readouterr().err and not (home / "token").exists()
    token = access.access_token(home)
    assert main(["serve", "--show-token", "--port", "8777"]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:8777/?token={token}\n"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("0.0.0.0", "http://localhost:80/"),
    ],
)
def test_the_printed_address_can_be_opened(address, url):
    assert access.dashboard_url(address, 80) == url


async def streamlit(scope, receive, send):
    """Stand-in for Streamlit behind the middleware."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
    else:
        await PlainTextResponse("inside")(scope, receive, send)


def client(gate, port=8501, **options):
    return TestClient(gate, base_url=f"http://127.0.0.1:{port}", follow_redirects=False, **options)


@pytest.fixture
def browser():
    return client(middleware.TokenGate(streamlit, TOKEN))


@pytest.mark.parametrize(
    "path", ["/", "/compare", "/media/x.png", "/_stcore/upload_file/1/2", "/_stcore/health/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_every_request_without_the_token_gets_the_token_form(browser, path, method):
    response = browser.request(method, path)
    assert response.status_code == 403
    assert "--show-token" in response.text
    assert "inside" not in response.text


def test_the_health_check_is_open(browser):
    assert browser.get("/_stcore/health").text == "inside"


def test_a_websocket_needs_the_cookie(browser):
    stream = "ws://127.0.0.1:8501/_stcore/stream"
    with pytest.raises(WebSocketDisconnect) as excinfo, browser.websocket_connect(stream):
        pass
    assert excinfo.value.code == 1008
    browser.get(f"/?token={TOKEN}")
    with browser.websocket_connect(stream) as socket:
        assert socket.receive()["code"] == 1000


def test_the_token_is_removed_from_the_url_and_the_rest_of_it_is_preserved(browser):
    response = browser.get(f"/compare?study=A+b&token={TOKEN}&empty=")
    assert (response.status_code, response.headers["location"]) == (
        303,
        "./compare?study=A+b&empty=",
    )
    assert browser.get("/compare").text == "inside"
    # also if the cookie exists already
    assert browser.get(f"/?token={TOKEN}").headers["location"] == "./"


def test_the_cookie_is_strict_private_and_valid_on_one_port(browser):
    cookie = browser.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "prunescope-token-8501=" in cookie and TOKEN not in cookie
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Max-Age" in cookie
    other = client(middleware.TokenGate(streamlit, TOKEN), 8502, cookies=dict(browser.cookies))
    assert other.get("/").status_code == 403
    renamed = {name.replace("8501", "8502"): value for name, value in browser.cookies.items()}
    assert (
        client(middleware.TokenGate(streamlit, TOKEN), 8502, cookies=renamed).get("/").status_code
        == 403
    )
    rotated = client(
        middleware.TokenGate(streamlit, "another token"), cookies=dict(browser.cookies)
    )
    assert rotated.get("/").status_code == 403


@pytest.mark.parametrize("pasted", ["{}", "  {} ", "http://127.0.0.1:8501/?token={}"])
def test_the_form_accepts_the_token_or_the_whole_url(browser, pasted):
    response = browser.post("/drift?study=x&token=wrong", data={"token": pasted.format(TOKEN)})
    assert (response.status_code, response.headers["location"]) == (303, "./drift?study=x")
    assert browser.get("/").text == "inside"


@pytest.mark.parametrize("wrong", ["wrong", TOKEN[:-1], TOKEN + "x", "ü", ""])
def test_a_wrong_token_is_refused(browser, wrong):
    for response in (
        browser.get("/", params={"token": wrong}),
        browser.post("/", data={"token": wrong}),
    ):
        assert response.status_code == 403 and "set-cookie" not in response.headers
        assert "not the access token" in response.text
    assert browser.get("/").status_code == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1:abc", "127.0.0.1:99999", "[::1", "", "a b", "[::1]:8501"]
)
def test_a_malformed_host_header_gets_the_form_too(browser, host):
    assert browser.get("/", headers={"Host": host}).status_code == 403


def test_a_huge_form_is_not_read(browser):
    padding = "x" * 10_000
    assert browser.post("/", content=f"a={padding}&token={TOKEN}").status_code == 403


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/\\evil.example", "/%5C%5Cevil.example/", "/javascript:alert(1)"]
)
def test_the_redirect_stays_on_this_server(browser, path):
    response = browser.get(f"http://127.0.0.1:8501{path}?token={TOKEN}")
    assert response.headers["location"].startswith("./")
    assert "\\" not in response.headers["location"]


def test_the_form_echoes_nothing_as_html(browser):
    page = browser.get('/"><script>alert(1)</script>?study="><script>alert(2)</script>').text
    assert "<script>" not in page


@pytest.mark.parametrize("mode", ["token", "no token"])
def test_streamlit_run_prints_one_url_that_opens(mode, home, tmp_path):
    settings = {access.NO_TOKEN: "" if mode == "token" else "1"}
    with served(home, APP, tmp_path / "log", **settings) as (address, _):
        printed = re.findall(r"https?://\S+", (tmp_path / "log").read_text())
        assert len(printed) == 1 and printed[0].startswith(f"{address}/")
        assert len((tmp_path / "log").read_text().strip().splitlines()) == 1
        path = printed[0].removeprefix(f"{address}")
        assert path == (f"/?token={access.access_token(home)}" if mode == "token" else "/")
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == (303 if mode == "token" else 200)
        connection.request("GET", "/compare")
        assert connection.getresponse().status == (403 if mode == "token" else 200)


@pytest.mark.parametrize("command", [["-m", "prune_core", "serve", "--port"], ["-c", "BARE"]])
def test_serve_and_the_bare_command_print_the_url_too(command, home, tmp_path):
    port = free_port()
    if command[-1] == "BARE":  # prunescope without arguments
        command = [
            "-c",
            "import sys; sys.argv[1:] = []; from prune_core.cli.prunescope import main; main()",
        ]
    arguments = [*command, str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_PORT": str(port)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        assert is_healthy(port)
        printed = re.findall(r"https?://\S+", (tmp_path / "log").read_text())
        assert printed == [f"http://127.0.0.1:{port}/?token={access.access_token(home)}"]
    finally:
        process.terminate()
        process.wait(30)


# -- reverse proxy ------------------------------------------------------------------------------


def proxy_client(monkeypatch, secret="", **settings):
    monkeypatch.setenv(access.USER_HEADER, "X-User")
    for name, value in settings.items():
        monkeypatch.setenv(getattr(access, name), value)
    return client(middleware.ProxyGate(streamlit, Access.from_environment(), secret))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-User": ""},
        {"X-User": "ada@lab.org"},
        {"X-User": "ada@lab.org", "X-Proxy-Secret": "wrong"},
        {"X-User": "ada@lab.org", "X-Proxy-Secret": ""},
        {"X-Proxy-Secret": "right"},
        {"X-User": "ada@lab.org", "X-Proxy-Secret": "righ"},
        {"X-User": "ada@lab.org", "X-Other": "right"},
    ],
)
def test_every_request_without_secret_and_user_gets_the_same_refusal(headers, monkeypatch):
    browser = proxy_client(monkeypatch, "right", CONTACT="ops@lab.org")
    response = browser.get("/compare", headers=headers)
    assert response.status_code == 403
    assert "ops@lab.org" in response.text
    assert "inside" not in response.text
    assert response.text == browser.get("/compare").text
    with (
        pytest.raises(WebSocketDisconnect) as excinfo,
        browser.websocket_connect("/_stcore/stream", headers=headers),
    ):
        pass
    assert excinfo.value.code == 1008


def test_a_second_user_header_is_refused(monkeypatch):
    headers = [("X-User", "admin@lab.org"), ("X-User", "eve@evil.org")]
    assert proxy_client(monkeypatch).get("/", headers=headers[:1]).text == "inside"
    assert proxy_client(monkeypatch).get("/", headers=headers).status_code == 403


@pytest.mark.parametrize("header", ["X-Proxy-Secret", "X-Lab"])
def test_with_secret_and_user_requests_pass(header, monkeypatch):
    browser = proxy_client(monkeypatch, "right", SECRET_HEADER=header)
    assert browser.get("/", headers={"X-User": "ada@lab.org", header: "right"}).text == "inside"
    assert browser.get("/_stcore/health").text == "inside"


def test_a_secret_file_protects_the_server(home, tmp_path):
    (tmp_path / "secret").write_text("right\n")
    (tmp_path / "secret").chmod(0o600)
    settings = {access.USER_HEADER: "X-User", access.SECRET_FILE: str(tmp_path / "secret")}
    with served(home, APP, tmp_path / "log", **settings) as (address, _):
        for secret, status in (("right", 200), ("wrong", 403)):
            connection = http.client.HTTPConnection(address.removeprefix("http://"))
            connection.request(
                "GET", "/", headers={"X-User": "ada@lab.org", "X-Proxy-Secret": secret}
            )
            assert connection.getresponse().status == status


# -- pages --------------------------------------------------------------------------------------


def app(**claims):
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.user = {"is_logged_in": True, **claims}
    return at.run()


def test_a_listed_user_sees_the_pages(tmp_path, monkeypatch):
    set_up_login(tmp_path)
    monkeypatch.setenv(access.ALLOW, "eve@evil.org; group:ml-team")
    at = app(email="ada@lab.org", groups=["ml-team"])
    assert not at.exception and not at.error
    assert {button.label for button in at.button} >= {"Log out", "Run the demo study"}


def test_a_refused_user_sees_the_contact_and_is_recorded_once(tmp_path, monkeypatch):
    set_up_login(tmp_path)
    monkeypatch.setenv(access.ALLOW, "@lab.org")
    monkeypatch.setenv(access.CONTACT, "ops@lab.org")
    at = app(email="eve@evil-lab.org")
    for _ in range(3):
        assert not at.exception and len(at.error) == 1 and not at.sidebar.children
        assert at.error[0].value == (
            "You are logged in as `eve@evil-lab.org`, which is not on the allow-list of this "
            "server; ask ops@lab.org for access."
        )
        assert [button.label for button in at.button] == ["Log out"]
        at.run()
    events = Store().events()
    assert list(zip(events["who"], events["what"], strict=True)) == [
        ("eve@evil-lab.org", "refused")
    ]


def test_an_unverified_user_sees_the_reason(tmp_path, monkeypatch):
    set_up_login(tmp_path)
    monkeypatch.setenv(access.ALLOW, "@lab.org")
    at = app(email="ada@lab.org", email_verified=False)
    assert "has not verified" in at.error[0].value and not at.sidebar.children


def test_a_login_without_an_allow_list_shows_no_page(tmp_path):
    set_up_login(tmp_path)
    at = app(email="ada@lab.org")
    assert len(at.error) == 1 and not at.sidebar.children


def test_an_untrusted_name_is_recorded_as_plain_text(tmp_path, monkeypatch):
    set_up_login(tmp_path)
    monkeypatch.setenv(access.ALLOW, "@lab.org")
    app(email="eve\x1b[2J`@evil.org" + "x" * 1000)
    [who] = Store().events()["who"]
    assert who.isprintable() and len(who) == 200
