"""Who calls: a bearer token, or the session of a signed-in user, who then must also send the CSRF token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from django_taskq.api import tokens
from django_taskq.api.errors import ApiError
from django_taskq.models import ApiToken

REALM = 'Bearer realm="django_taskq"'
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, and the token that stands for him, if any."""

    user: Any
    token: ApiToken | None = None

    def may(self, permission: str) -> bool:
        """Whether the user has a permission of django_taskq."""
        return bool(self.user.has_perm(f"django_taskq.{permission}"))

    def require(self, permissions: tuple[str, ...]) -> None:
        """ApiError 403 unless the user has them all."""
        lacking = [f"django_taskq.{permission}" for permission in permissions if not self.may(permission)]
        if lacking:
            headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'} if self.token else {}
            text = f"This needs the permission {', '.join(lacking)}."
            raise ApiError(403, "permission_denied", text, headers=headers, required=lacking)


def authenticate(request: HttpRequest) -> Actor:
    """Raises ApiError 401, or 403 for a session without its CSRF token."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    # Another scheme is not for us: a proxy in front of the site may ask for Basic.
    if scheme.lower() == "bearer":
        token = tokens.find(credentials.strip())
        if token is None:
            headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
            raise ApiError(401, "invalid_token", "The token is unknown, revoked or expired.", headers=headers)
        return Actor(token.user, token)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or not user.is_active:
        text = "Sign in, or send a token: Authorization: Bearer taskq_..."
        raise ApiError(401, "not_authenticated", text, headers={"WWW-Authenticate": REALM})
    if request.method not in SAFE:
        _require_csrf_token(request)
    return Actor(user)


class _Csrf(CsrfViewMiddleware):
    """Django's own check, which tells why instead of answering with a page."""

    reason = ""

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        self.reason = reason
        return HttpResponse(status=403)


def _require_csrf_token(request: HttpRequest) -> None:
    check = _Csrf(lambda _: HttpResponse())
    check.process_request(request)
    if check.process_view(request, lambda _: HttpResponse(), (), {}) is not None:
        raise ApiError(403, "csrf_failed", f"{check.reason} Send the cookie's token as X-CSRFToken.")
