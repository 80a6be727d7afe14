"""Middleware that checks every request to the dashboard, and the message at startup."""

import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from prune_core import PruneError
from prune_core.access import (
    Access,
    access_token,
    constant_time_equal,
    cookie_value,
    dashboard_url,
    proxy_secret,
)
from prune_core.paths import ASSETS
from prune_core.store.store import default_home

YEAR = 365 * 24 * 3600  # seconds that a browser keeps the cookie
LONGEST_FORM = 4096  # bytes
FORM = """<p>Paste the access token. It is part of the address that PruneScope printed in the
terminal at startup; <code>python -m prune_core serve --show-token</code> prints it again.</p>
<form method="post" action="{action}">
<label for="token">Access token</label>
<input id="token" name="token" type="password" autocomplete="off" autofocus required>
{error}
<button>Open</button>
</form>"""
WRONG = '<p role="alert">This is not the access token of this server.</p>'
THROUGH_PROXY = (
    "This server is reached through a reverse proxy that identifies its users: open the proxy's "
    "address, or ask {contact} if you came from there."
)


class Gate:
    """Base of the two middlewares: pass admitted requests on, refuse the others.

    The health check stays open, as supervisors and load balancers need it.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        base = st.get_option("server.baseUrlPath").strip("/")
        self.health = f"{'/' if base else ''}{base}/_stcore/health"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket handshake."""
        if scope["type"] == "lifespan" or scope["path"] == self.health:
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            admitted = self.admits(HTTPConnection(scope))
            return await (self.app if admitted else WebSocketClose(1008))(scope, receive, send)
        refusal = await self.refusal(Request(scope, receive))
        return await (refusal or self.app)(scope, receive, send)

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the request may reach Streamlit."""
        raise NotImplementedError

    async def refusal(self, request: Request) -> Response | None:
        """Return the response that replaces Streamlit's; None for an admitted request."""
        raise NotImplementedError


class TokenGate(Gate):
    """Ask every browser once for the access token and remember it in a cookie."""

    def __init__(self, app: ASGIApp, token: str):
        super().__init__(app)
        self.token = token

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the browser's cookie was set by this server."""
        name = _cookie_name(connection)
        return constant_time_equal(connection.cookies.get(name, ""), cookie_value(self.token, name))

    async def refusal(self, request: Request) -> Response | None:
        """Set the cookie and remove the token from the address, or show the form."""
        admitted = self.admits(request)
        presented = request.query_params.get("token")
        if not admitted and request.method == "POST":
            presented = await _posted_token(request)
        if presented is None:
            if admitted:
                return None
            return _reload() if _is_cross_site(request) else _form(request)
        presented = presented.strip().rpartition("token=")[2]  # a complete URL is accepted too
        if not admitted and not constant_time_equal(presented, self.token):
            return _form(request, WRONG)
        response = RedirectResponse(_without_token(request), 303)
        if not admitted:
            name = _cookie_name(request)
            response.set_cookie(
                name,
                cookie_value(self.token, name),
                max_age=YEAR,
                path="/",
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return response


class ProxyGate(Gate):
    """Accept only requests with the proxy's user header and, if configured, its secret."""

    def __init__(self, app: ASGIApp, access: Access, secret: str):
        super().__init__(app)
        self.access, self.secret = access, secret

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the proxy sent this request."""
        headers = connection.headers
        trusted = not self.secret or constant_time_equal(
            headers.get(self.access.secret_header, ""), self.secret
        )
        users = headers.getlist(self.access.user_header)  # a client may add a second one
        return trusted and len(users) == 1 and bool(users[0].strip())

    async def refusal(self, request: Request) -> Response | None:
        """Return a page with an explanation for a request that did not come through the proxy."""
        if self.admits(request):
            return None
        return _page(f"<p>{escape(THROUGH_PROXY.format(contact=self.access.contact))}</p>")


def middleware() -> list[Middleware]:
    """Return the middleware that the settings require; exit with a message if they are invalid."""
    try:
        access = Access.from_environment()
        access.check()
        if access.user_header:
            secret = proxy_secret(access.secret_file) if access.secret_file else ""
            return [Middleware(ProxyGate, access, secret)]
        if access.needs_token:
            return [Middleware(TokenGate, access_token(default_home()))]
    except PruneError as error:
        raise SystemExit(f"PruneScope: {error}") from None
    return []


@asynccontextmanager
async def announce(_: Any) -> AsyncIterator[None]:
    """Print the address once the port is bound."""
    token = access_token(default_home()) if Access.from_environment().needs_token else ""
    url = dashboard_url(
        st.get_option("server.address") or "",
        st.get_option("server.port"),
        token=token,
        base=st.get_option("server.baseUrlPath"),
        tls=bool(st.get_option("server.sslCertFile")),
    )
    print(f"\n  Open PruneScope in your browser: {url}\n", file=sys.stderr, flush=True)
    yield


def _cookie_name(connection: HTTPConnection) -> str:
    """Return the name for the server's port: browsers share cookies between ports of a host."""
    return f"prunescope-token-{connection.url.port or connection.url.scheme}"


def _is_cross_site(request: Request) -> bool:
    """Whether the request comes from a link on another site: it has no SameSite=Strict cookie."""
    headers = request.headers
    return (
        headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-site") == "cross-site"
    )


def _reload() -> Response:
    """Make the browser repeat the request, this time with its cookie."""
    return HTMLResponse(
        '<meta http-equiv="refresh" content="0">', headers={"Cache-Control": "no-store"}
    )


async def _posted_token(request: Request) -> str:
    """Return the token of a submitted form; "" if there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0]


def _without_token(request: Request) -> str:
    """Return the requested URL without the token, relative, so that it stays on this host."""
    query = [
        (name, value)
        for name, value in parse_qsl(request.url.query, keep_blank_values=True)
        if name != "token"
    ]
    page = quote(request.url.path.rpartition("/")[2])
    return f"./{page}{'?' if query else ''}{urlencode(query)}"


def _form(request: Request, error: str = "") -> Response:
    return _page(FORM.format(error=error, action=escape(_without_token(request))))


def _page(content: str) -> Response:
    """Return a page in the dashboard's colors that loads no other file."""
    page = (ASSETS / "entry.html").read_text(encoding="utf-8")
    for name in ("logo", "logo-dark"):
        picture = b64encode((ASSETS / f"{name}.svg").read_bytes()).decode()
        page = page.replace(f"{name}.svg", f"data:image/svg+xml;base64,{picture}")
    return HTMLResponse(
        page.replace("<!--content-->", content), 403, headers={"Cache-Control": "no-store"}
    )
