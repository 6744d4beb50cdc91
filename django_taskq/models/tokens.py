"""The tokens of the JSON API."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ApiToken(models.Model):
    """A key to the JSON API with the permissions of its user. The secret is not kept, only what recognises it."""

    name = models.CharField(_("name"), max_length=100, help_text=_("what it is for"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, verbose_name=_("user"), related_name="+",
        help_text=_("whose permissions it has"),
    )  # fmt: skip
    prefix = models.CharField(_("prefix"), max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)  # of the whole token, SHA-256
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    used_at = models.DateTimeField(_("last used"), null=True, editable=False, help_text=_("to the minute"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ("-created_at", "-id")
        permissions = (("submit", _("Can send tasks through the API")),)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    @property
    def is_usable(self) -> bool:
        """Whether it opens the API now; its user must be active besides."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())
