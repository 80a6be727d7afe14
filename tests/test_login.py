"""Who may come in, tried and not pretended: a provider on this machine and a browser that is sent there and back; a proxy's header."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import websockets
from joserfc import jwk, jwt
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.dashboard import APP, CHROMIUM, chromium, served
from prune_core.paths import USER_HEADER
from prune_core.runs.store import Store

PATIENCE = 120_000  # ms


class Provider(BaseHTTPRequestHandler):
    """OpenID Connect's four addresses, for one person who needs no password."""

    key = jwk.RSAKey.generate_key(2048, {"kid": "1"})
    nonce = ""

    def do_GET(self):
        """What it offers, its key, and the way back with a code."""
        base, asked = f"http://{self.headers['Host']}", urlsplit(self.path)
        if asked.path == "/auth":
            query = dict(parse_qsl(asked.query))
            Provider.nonce = query["nonce"]
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{urlencode({'code': '1', 'state': query['state']})}")
            self.end_headers()
        elif asked.path == "/jwks":
            self.answer({"keys": [self.key.as_dict(private=False)]})
        else:
            self.answer({"issuer": base, "authorization_endpoint": f"{base}/auth", "token_endpoint": f"{base}/token",
                         "jwks_uri": f"{base}/jwks", "id_token_signing_alg_values_supported": ["RS256"]})  # fmt: skip

    def do_POST(self):
        """A token for the code."""
        now = int(time.time())
        claims = {"iss": f"http://{self.headers['Host']}", "aud": "prunescope", "sub": "1", "email": "ada@lab.example",
                  "iat": now, "exp": now + 600, "nonce": self.nonce}  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        self.answer({"access_token": "1", "token_type": "Bearer", "id_token": token, "expires_in": 600})

    def answer(self, what):
        """As JSON."""
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Not into the test's output."""


@pytest.fixture
def provider():
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="the login needs chromium: apt-get install chromium")
def test_pages_are_for_those_who_log_in_and_what_they_do_bears_their_name(provider, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    secrets.write_text("[auth]\n")  # that there is a login; where it comes back to is known once the server has a port
    with served(tmp_path / "home", APP, tmp_path / "log", HOME=str(tmp_path)) as (address, _), chromium() as browser:
        secrets.write_text(
            f'[auth]\nredirect_uri = "{address}/oauth2callback"\ncookie_secret = "a long random text of the test"\n'
            f'client_id = "prunescope"\nclient_secret = "1"\nserver_metadata_url = "{provider}/.well-known/openid-configuration"\n'
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/studies")
        page.get_by_role("button", name="Log in").wait_for()
        assert "Every study" not in page.inner_text("body")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
        page.get_by_role("button", name="Run the demo study").click()
        page.get_by_text("At work").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in").wait_for()
        assert "At work" not in page.inner_text("body")
    assert set(Store(tmp_path / "home").events(50)["who"]) == {"ada@lab.example"}


async def seen(address, **headers):
    """Kinds of elements on the Studies page, and what its warnings say, for who comes with these headers."""
    place = address.replace("http", "ws") + "/_stcore/stream"
    found = []
    async with websockets.connect(place, subprotocols=["streamlit"], max_size=None, origin=address, additional_headers=headers) as socket:
        ask = BackMsg()
        ask.rerun_script.page_name = "studies"
        await socket.send(ask.SerializeToString())
        async for content in socket:
            message = ForwardMsg.FromString(content)
            if message.WhichOneof("type") == "delta":
                element = message.delta.new_element
                found.append(element.alert.body if element.WhichOneof("type") == "alert" else element.WhichOneof("type"))
            if message.WhichOneof("type") == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                return found


def test_a_proxy_says_who_asks_and_others_see_nothing(tmp_path):
    with served(tmp_path / "home", APP, tmp_path / "log", **{USER_HEADER: "X-Forwarded-User"}) as (address, _):
        unknown = asyncio.run(asyncio.wait_for(seen(address), 120))
        assert len(unknown) == 1 and "proxy that knows you" in unknown[0]
        assert "heading" in asyncio.run(asyncio.wait_for(seen(address, **{"X-Forwarded-User": "bob@lab.example"}), 120))
