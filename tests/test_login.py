"""Login, proxy header and access token in a browser, with a local OpenID Connect provider."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import websockets
from joserfc import jwk, jwt
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.dashboard import APP, CHROMIUM, chromium, served
from prune_core import access
from prune_core.store.store import Store

TIMEOUT = 120_000  # ms


class Provider(BaseHTTPRequestHandler):
    """A minimal OpenID Connect provider with one user who needs no password."""

    key = jwk.RSAKey.generate_key(2048, {"kid": "1"})
    nonce = ""
    claims: dict = {}  # of the person who logs in next

    def do_GET(self):
        """Serve the configuration, the keys, and the redirect with a code."""
        base, url = f"http://{self.headers['Host']}", urlsplit(self.path)
        if url.path == "/auth":
            query = dict(parse_qsl(url.query))
            Provider.nonce = query["nonce"]
            self.send_response(302)
            self.send_header(
                "Location",
                f"{query['redirect_uri']}?{urlencode({'code': '1', 'state': query['state']})}",
            )
            self.end_headers()
        elif url.path == "/jwks":
            self.respond({"keys": [self.key.as_dict(private=False)]})
        else:
            self.respond(
                {
                    "issuer": base,
                    "authorization_endpoint": f"{base}/auth",
                    "token_endpoint": f"{base}/token",
                    "jwks_uri": f"{base}/jwks",
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )

    def do_POST(self):
        """Exchange the code for a token."""
        now = int(time.time())
        claims = {
            "iss": f"http://{self.headers['Host']}",
            "aud": "prunescope",
            "sub": "1",
            "iat": now,
            "exp": now + 600,
            "nonce": self.nonce,
            **Provider.claims,
        }
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        self.respond(
            {"access_token": "1", "token_type": "Bearer", "id_token": token, "expires_in": 600}
        )

    def respond(self, content):
        """Send content as JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep requests out of the test output."""


@pytest.fixture
def provider():
    """URL of the provider."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="this test needs chromium: apt-get install chromium"
)


@contextmanager
def login_page(provider, tmp_path, **claims):
    """Open a browser page on a server with a login through `provider`, which sends these claims."""
    Provider.claims = claims
    (tmp_path / ".streamlit").mkdir()
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    # redirect_uri needs the port, which is known once the server runs
    secrets.write_text("[auth]\n")
    settings = {access.ALLOW: "@lab.example;group:ml-team", access.CONTACT: "ops@lab.example"}
    with (
        served(tmp_path / "home", APP, tmp_path / "log", HOME=str(tmp_path), **settings) as (
            address,
            _,
        ),
        chromium() as browser,
    ):
        secrets.write_text(
            f'[auth]\nredirect_uri = "{address}/oauth2callback"\n'
            'cookie_secret = "a long random text of the test"\n'
            'client_id = "prunescope"\nclient_secret = "1"\n'
            f'server_metadata_url = "{provider}/.well-known/openid-configuration"\n'
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(TIMEOUT)
        page.goto(f"{address}/studies")
        page.get_by_role("button", name="Log in").wait_for()
        assert "All your studies" not in page.inner_text("body")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
        yield page


@needs_chromium
def test_a_logged_in_user_sees_pages_and_is_recorded(provider, tmp_path):
    with login_page(provider, tmp_path, email="Ada@lab.example", email_verified=True) as page:
        page.get_by_role("button", name="Run the demo study").click()
        page.get_by_text("Running", exact=True).wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in").wait_for()
        assert "Running" not in page.inner_text("body")
    assert set(Store(tmp_path / "home").events(50)["who"]) == {"Ada@lab.example"}


@needs_chromium
def test_group_in_the_id_token_grants_access(provider, tmp_path):
    with login_page(
        provider, tmp_path, email="bob@elsewhere.example", groups=["staff", "ml-team"]
    ) as page:
        page.get_by_role("button", name="Run the demo study").wait_for()


@needs_chromium
def test_a_user_who_is_not_on_the_allow_list_is_refused_and_can_log_out(provider, tmp_path):
    with login_page(provider, tmp_path, email="eve@evil-lab.example", groups=["staff"]) as page:
        body = page.inner_text("body")
        assert "You are logged in as eve@evil-lab.example" in body and "ask ops@lab.example" in body
        assert "Run the demo study" not in body
        assert "Compare" not in body
        assert not page.get_by_text("Nothing is running").count()
        page.goto(page.url + "studies")
        page.get_by_text("You are logged in as").wait_for()
        Provider.claims = {"email": "ada@lab.example"}
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Run the demo study").wait_for()
    events = Store(tmp_path / "home").events(50)
    assert set(zip(events["who"], events["what"], strict=True)) == {
        ("eve@evil-lab.example", "refused")
    }


@needs_chromium
def test_a_browser_needs_the_token_once_also_after_a_link_from_another_site(tmp_path):
    home, log = tmp_path / "home", tmp_path / "log"
    with served(home, APP, log, **{access.NO_TOKEN: ""}) as (address, _), chromium() as browser:
        token = access.access_token(home)
        page = browser.new_context().new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(f"{address}/compare?study=x")
        page.get_by_label("Access token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("This is not the access token").wait_for()
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Open").click()
        page.get_by_role("button", name="Run the demo study").wait_for()
        assert token not in page.url and "/compare" in page.url
        follow(f"{address}/compare", page.context)
        follow(f"{address}/compare?token={token}", browser.new_context())


def follow(link, context):
    """Click a link on a page of another site, which sends no SameSite=Strict cookie.

    That site is localhost, not 127.0.0.1.
    """
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.route(
        "http://localhost:1/",
        lambda route: route.fulfill(body=f'<a href="{link}">link</a>', content_type="text/html"),
    )
    page.goto("http://localhost:1/")
    page.get_by_text("link").click()
    page.get_by_role("button", name="Run the demo study").wait_for()
    assert page.url.endswith("/compare")


async def element_types(address, **headers):
    """Return the element types of the Studies page, and the texts of its alerts."""
    url = address.replace("http", "ws") + "/_stcore/stream"
    elements = []
    async with websockets.connect(
        url, subprotocols=["streamlit"], max_size=None, origin=address, additional_headers=headers
    ) as socket:
        request = BackMsg()
        request.rerun_script.page_name = "studies"
        await socket.send(request.SerializeToString())
        async for content in socket:
            message = ForwardMsg.FromString(content)
            if message.WhichOneof("type") == "delta":
                element = message.delta.new_element
                kind = element.WhichOneof("type")
                elements.append(element.alert.body if kind == "alert" else kind)
            if (
                message.WhichOneof("type") == "script_finished"
                and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
            ):
                return elements


def test_proxy_header_identifies_the_user_and_is_required(tmp_path):
    with served(
        tmp_path / "home", APP, tmp_path / "log", **{access.USER_HEADER: "X-Forwarded-User"}
    ) as (address, _):
        with pytest.raises(websockets.InvalidStatus, match="403"):
            asyncio.run(asyncio.wait_for(element_types(address), 120))
        assert "heading" in asyncio.run(
            asyncio.wait_for(element_types(address, **{"X-Forwarded-User": "bob@lab.example"}), 120)
        )


def test_an_allow_list_restricts_the_users_that_a_proxy_names(tmp_path):
    settings = {access.USER_HEADER: "X-Forwarded-User", access.ALLOW: "@lab.example"}
    with served(tmp_path / "home", APP, tmp_path / "log", **settings) as (address, _):
        elements = asyncio.run(
            asyncio.wait_for(
                element_types(address, **{"X-Forwarded-User": "eve@evil.example"}), 120
            )
        )
        assert any(
            "eve@evil.example" in element and "not on the allow-list" in element
            for element in elements
        )
        assert "heading" in asyncio.run(
            asyncio.wait_for(element_types(address, **{"X-Forwarded-User": "Bob@Lab.example"}), 120)
        )
    assert list(Store(tmp_path / "home").events()["who"]) == ["eve@evil.example"]
