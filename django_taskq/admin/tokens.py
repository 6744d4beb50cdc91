"""Tokens for the JSON API: made here and shown once, revoked, never read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.api import tokens
from django_taskq.models import ApiToken

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[ApiToken]
    ModelForm = forms.ModelForm[ApiToken]
else:
    ModelAdmin, ModelForm = admin.ModelAdmin, forms.ModelForm

ASKED = ("name", "user", "expires_at")


class TokenForm(ModelForm):
    """What is asked for a new token."""

    class Meta:
        model = ApiToken
        fields = ASKED

    def clean_expires_at(self) -> Any:
        """A time to come, or none."""
        expires = self.cleaned_data["expires_at"]
        if expires is not None and expires <= timezone.now():
            raise ValidationError(_("This has passed."))
        return expires


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):
    """A token has the permissions of its user, so only superusers make tokens for others than themselves."""

    form = TokenForm
    list_display = ("name", "user", "prefix", "usable", "used_at", "expires_at", "created_at")
    list_select_related = ("user",)
    list_per_page = 50
    raw_id_fields = ("user",)
    search_fields = ("name", "prefix")
    actions = ("revoke_selected",)

    @admin.display(description=gettext_lazy("usable"), boolean=True)
    def usable(self, row: ApiToken) -> bool:
        return row.is_usable and bool(row.user.is_active)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """The permission to change tokens is that to revoke them: nothing else of them changes."""
        return request.user.has_perm("django_taskq.change_apitoken")

    def has_view_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_revoke_permission(request)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return ASKED if obj is None else (*ASKED, "prefix", "created_at", "used_at", "revoked_at", "usable")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not getattr(request.user, "is_superuser", False):
            kwargs["queryset"] = get_user_model()._default_manager.filter(pk=request.user.pk or 0)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        """A new one; there is no form that changes one."""
        request.taskq_token = tokens.prepare(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        """The token, on this page and on no other: a message would be kept in a cookie or a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("API token created"),
            "opts": self.opts,
            "row": obj,
            "text": request.taskq_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/django_taskq/apitoken_created.html", context)

    @admin.action(description=gettext_lazy("Revoke selected tokens"), permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        count = 0
        for row in queryset:
            if tokens.revoke(row):
                count += 1
                self.log_change(request, row, _("Revoked."))
        text = ngettext("%(count)d token revoked.", "%(count)d tokens revoked.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS if count else messages.WARNING)
