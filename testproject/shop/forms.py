from __future__ import annotations

from django import forms


class SendForm(forms.Form):
    WORK = (
        ("email", "Send e-mails"),
        ("picture", "Make thumbnails"),
        ("flaky", "Fail every other time"),
        ("failure", "Always fail"),
        ("supplier", "Wait in a coroutine"),
        ("report", "Work slowly"),
    )

    work = forms.ChoiceField(choices=WORK)
    count = forms.IntegerField(min_value=1, max_value=100, initial=5, help_text="how many")
    delay = forms.FloatField(min_value=0, max_value=3600, initial=0, help_text="seconds from now")
    priority = forms.IntegerField(min_value=-100, max_value=100, initial=0, help_text="-100 to 100, higher is sooner")
