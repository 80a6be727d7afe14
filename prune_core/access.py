"""Access control of the dashboard: login allow-list, proxy header and secret, access token.

`serve` sets the environment variables below from its flags; `streamlit run app.py` reads them too.
Independent of Streamlit and HTTP.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import stat
import string
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from .errors import PruneError
from .paths import ROOT

ALLOW = "PRUNESCOPE_ALLOW"  # entries separated by semicolons
GROUPS_CLAIM = "PRUNESCOPE_GROUPS_CLAIM"
CONTACT = "PRUNESCOPE_CONTACT"
USER_HEADER = "PRUNESCOPE_USER_HEADER"
SECRET_FILE = "PRUNESCOPE_PROXY_SECRET_FILE"
SECRET_HEADER = "PRUNESCOPE_PROXY_SECRET_HEADER"
NO_TOKEN = "PRUNESCOPE_NO_TOKEN"

ANYONE = "anyone"
GROUP = "group:"
DEFAULT_GROUPS_CLAIM = "groups"
DEFAULT_SECRET_HEADER = "X-Proxy-Secret"
# Microsoft endpoints at which any tenant can state any address
MULTI_TENANT = ("common", "organizations")

# ASCII only: str.lower() maps U+212A (Kelvin sign) to "k", so that a different domain would match
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class AllowList:
    """The people who may open the dashboard, as addresses, @domains, group:NAME or "anyone"."""

    entries: tuple[str, ...] = ()
    groups_claim: str = DEFAULT_GROUPS_CLAIM

    def __post_init__(self) -> None:
        for entry in self.entries:
            _check_entry(entry)

    @property
    def groups(self) -> frozenset[str]:
        """Names of the listed groups."""
        return frozenset(e.removeprefix(GROUP) for e in self.entries if e.startswith(GROUP))

    def admits(self, claims: Mapping[str, Any]) -> bool:
        """Whether these identity claims are on the list. An unverified address never is."""
        if not is_verified(claims):
            return False
        address = str(claims.get("email") or "").translate(_LOWER)
        listed = {e.translate(_LOWER) for e in self.entries if not e.startswith(GROUP)}
        # an address with several @ has no domain
        domain = address[address.find("@") :] if address.count("@") == 1 else address
        groups = claims.get(self.groups_claim)
        if not isinstance(groups, list):  # some providers send a single group as a string
            groups = [groups] if isinstance(groups, str) else []
        return (
            ANYONE in self.entries
            or not listed.isdisjoint((address, domain))
            or not self.groups.isdisjoint(map(str, groups))
        )


def _check_entry(entry: str) -> None:
    """Raise PruneError unless the entry is an address, a domain, a group or "anyone"."""
    local, at, domain = entry.partition("@")
    is_group = entry.startswith(GROUP) and entry != GROUP
    is_address = at and domain and "@" not in domain and not entry.startswith(GROUP)
    if not (entry == ANYONE or is_group or (is_address and entry.split() == [entry])):
        raise PruneError(
            f"--allow {entry!r} ({ALLOW}) is not an entry of an allow-list: write an address "
            "(ada@lab.example.org), a domain (@lab.example.org), group:NAME or anyone."
        )


def is_verified(claims: Mapping[str, Any]) -> bool:
    """Whether the provider does not state `email_verified: false`, as a boolean or a string."""
    stated = claims.get("email_verified")
    return stated is None or str(stated).lower() in ("true", "1")


@dataclass(frozen=True)
class Access:
    """Access settings: how users are identified, and which of them may open the dashboard."""

    login: tuple[str, ...] | None  # metadata addresses of the providers; None without a login
    user_header: str
    secret_file: str
    secret_header: str
    allow: AllowList
    contact: str
    no_token: bool

    @classmethod
    def from_environment(cls) -> Access:
        """Read the settings of this process."""
        get = os.environ.get
        entries = tuple(entry.strip() for entry in get(ALLOW, "").split(";") if entry.strip())
        return cls(
            login=login_providers(),
            user_header=get(USER_HEADER, ""),
            secret_file=get(SECRET_FILE, ""),
            secret_header=get(SECRET_HEADER) or DEFAULT_SECRET_HEADER,
            allow=AllowList(entries, get(GROUPS_CLAIM) or DEFAULT_GROUPS_CLAIM),
            contact=get(CONTACT) or "the person who runs this server",
            no_token=get(NO_TOKEN, "") not in ("", "0"),
        )

    @property
    def identifies_users(self) -> bool:
        """Whether a login or a proxy identifies the user."""
        return bool(self.user_header) or self.login is not None

    @property
    def needs_token(self) -> bool:
        """Whether a browser must present the access token."""
        return not self.identifies_users and not self.no_token

    @property
    def needs_listing(self) -> bool:
        """Whether a user must be on the allow-list, which is optional behind a proxy."""
        return bool(self.allow.entries) or (self.login is not None and not self.user_header)

    def check(self) -> None:
        """Raise PruneError if the settings contradict each other or would admit too many."""
        if self.secret_file and not self.user_header:
            raise PruneError(
                f"The proxy secret {self.secret_file} is not used without a proxy's user header: "
                "name the header with --user-header, or leave --proxy-secret-file out."
            )
        if self.allow.entries and not self.identifies_users:
            raise PruneError(
                f"--allow {self.allow.entries[0]} needs to identify users: set up a login in "
                ".streamlit/secrets.toml or name a proxy's header with --user-header; "
                "docs/serving.md has an example of each."
            )
        if self.user_header:
            self._check_header()
        elif self.login is not None:
            self._check_login(self.login)

    def _check_header(self) -> None:
        if self.allow.groups:
            raise PruneError(
                f"--allow group:{min(self.allow.groups)} needs a login: the header "
                f"{self.user_header} names a user and no groups; list addresses or domains, or "
                "check groups in the proxy."
            )
        if self.secret_file:
            proxy_secret(self.secret_file)

    def _check_login(self, providers: tuple[str, ...]) -> None:
        for provider in providers:
            url = urlsplit(provider)
            tenant = url.path.strip("/").split("/")[0]
            if url.hostname == "login.microsoftonline.com" and tenant in MULTI_TENANT:
                raise PruneError(
                    f"server_metadata_url = {provider} accepts every Microsoft tenant, and a "
                    f"tenant can state any address: replace {tenant} with your tenant's ID."
                )
        if not self.allow.entries:
            host = ", ".join(urlsplit(provider).hostname or provider for provider in providers)
            raise PruneError(
                f"The login at {host or 'the provider in secrets.toml'} has no allow-list, so "
                "everyone with an account there could open the dashboard: list who may, with "
                "--allow ada@lab.example.org, --allow @lab.example.org or --allow group:NAME "
                f"(or {ALLOW}), or write --allow {ANYONE}."
            )


def login_providers() -> tuple[str, ...] | None:
    """Return `server_metadata_url` of all providers in Streamlit's secrets; None without login."""
    for folder in (ROOT, Path.home()):
        file = folder / ".streamlit" / "secrets.toml"
        if not file.is_file():
            continue
        try:
            auth = tomllib.loads(file.read_text(encoding="utf-8")).get("auth")
        except (OSError, ValueError) as error:  # unreadable, not UTF-8, not TOML
            raise PruneError(
                f"{file} cannot be read ({error}); docs/serving.md has an example of it."
            ) from None
        if auth is not None:
            sections = [auth, *auth.values()] if isinstance(auth, dict) else []
            providers = (s.get("server_metadata_url") for s in sections if isinstance(s, dict))
            return tuple(str(provider) for provider in providers if provider)
    return None


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def access_token(home: Path, *, create: bool = True) -> str:
    """Return the token in `home`/token, created at first use, readable by this user only."""
    path = home / "token"
    if not path.exists():
        if not create:
            raise PruneError(
                f"{path} does not exist: no server with an access token has been started on this "
                "store; start one, or set PRUNESCOPE_HOME to the store of the server."
            )
        _write_private(path, secrets.token_urlsafe(32))
    advice = f"rm {path}, and the next start makes a new one"
    token = _read_private(path, f"others may know the token: {advice}")
    if len(token) < 20 or not token.isascii():
        raise PruneError(f"{path} does not contain an access token: {advice}.")
    return token


def proxy_secret(file: str | Path) -> str:
    """Return the secret that a reverse proxy adds to every request."""
    path = Path(file)
    if not path.is_file():
        raise PruneError(f"--proxy-secret-file {path}: there is no such file.")
    secret = _read_private(path, f"others may know the secret: run chmod 600 {path}")
    if len(secret.split()) != 1 or not secret.isascii():
        raise PruneError(
            f"--proxy-secret-file {path} must contain one word of ASCII characters, and it "
            f"{'is empty' if not secret else 'contains something else'}: write one with "
            f"python -c 'import secrets; print(secrets.token_urlsafe(32))' > {path}"
        )
    return secret


def constant_time_equal(presented: str | bytes, expected: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(
        presented.encode() if isinstance(presented, str) else presented, expected.encode()
    )


def cookie_value(token: str, name: str) -> str:
    """Derive the value of the cookie of that name from the token without revealing the token."""
    return hmac.new(token.encode(), name.encode(), "sha256").hexdigest()


def dashboard_url(
    address: str, port: int, *, token: str = "", base: str = "", tls: bool = False
) -> str:
    """Return the URL of the dashboard for a browser."""
    host = "localhost" if address in ("", "0.0.0.0", "::") else address  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    query = f"?{urlencode({'token': token})}" if token else ""
    return f"{'https' if tls else 'http'}://{host}:{port}/{base.strip('/')}{query}"


def _write_private(path: Path, text: str) -> None:
    """Create a file that only this user may read, unless another process creates it first."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{text}\n")
        with suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
    except OSError as error:
        raise PruneError(
            f"{path} cannot be written ({error}); set PRUNESCOPE_HOME to a folder that this user "
            "may write to."
        ) from error


def _read_private(path: Path, advice: str) -> str:
    """Read a text file that only its owner may read or write."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise PruneError(f"{path} can be read by other users (mode {mode:o}), so {advice}.")
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise PruneError(
            f"{path} cannot be read ({error}); make it a text file of this user."
        ) from None
