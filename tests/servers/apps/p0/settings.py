"""The article's Django project: two views, nothing else."""

SECRET_KEY = "not a secret: the project answers two fixed texts"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "p0.urls"
WSGI_APPLICATION = "p0.wsgi.application"
