import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
application = get_wsgi_application()

if os.environ.get("STATIC_ROOT"):
    from whitenoise import WhiteNoise

    application = WhiteNoise(application, root=os.environ["STATIC_ROOT"], prefix="static/")
