"""Signing in: who the browser is, and the demo's fixed roles. There is no store: the cookie is the token."""

import structlog
from aiohttp import web

from services.contracts.console import DemoSignIn, SessionView
from services.runtime.http_server import (
    CallerKey,
    clear_session,
    json_response,
    public,
    read_body,
    refuse,
    set_session,
)
from services.runtime.identity import DEMO_EXPIRY_S, ROLES, Caller, DemoIssuer, Identity, is_loopback

log = structlog.get_logger()


class Sessions:
    """`issuer` None: the city's own issuer signs people in, and demo sign-in does not exist."""

    def __init__(self, *, identity: Identity, issuer: DemoIssuer | None, secure: bool) -> None:
        self._identity = identity
        self._issuer = issuer
        self._secure = secure

    @public
    async def read(self, request: web.Request) -> web.Response:
        """GET: who is signed in, and which roles the demo offers."""
        return json_response(self._view(request.get(CallerKey)))

    @public
    async def sign_in(self, request: web.Request) -> web.Response:
        """POST: take one of the demo's roles; from this machine only."""
        if self._issuer is None:
            raise refuse(403, "this system signs people in through the city's issuer")
        if not is_loopback(request.remote or ""):
            raise refuse(403, "demo sign-in works from this machine only")
        wanted = await read_body(request, DemoSignIn)
        role = next((role for role in ROLES if role == wanted.role), None)
        if role is None:
            raise refuse(422, f"role must be one of {', '.join(ROLES)}")
        token = self._issuer.issue(role)
        response = json_response(self._view(self._identity.verify(token)))
        set_session(response, token, secure=self._secure, max_age_s=DEMO_EXPIRY_S)
        log.info("session.signed_in", role=role)
        return response

    @public
    async def sign_out(self, _request: web.Request) -> web.Response:
        """DELETE: forget the cookie."""
        response = web.Response(status=204)
        clear_session(response, secure=self._secure)
        return response

    def _view(self, caller: Caller | None) -> SessionView:
        return SessionView(
            account=None if caller is None else caller.account,
            role=None if caller is None else caller.role,
            jurisdictions=() if caller is None else caller.jurisdictions,
            expires_us=None if caller is None else caller.expires_us,
            demo_roles=() if self._issuer is None else ROLES,
        )


def session_ended(caller: Caller, now_us: int) -> bool:
    """Tell whether a socket's session is over; it then closes with 4001."""
    return caller.expires_us is not None and caller.expires_us <= now_us
