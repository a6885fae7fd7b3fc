"""Two views: one that answers at once, and one that takes its time."""

import os
import time

from django.http import HttpRequest, HttpResponse
from django.urls import path


def fast(_: HttpRequest) -> HttpResponse:
    return HttpResponse("OK")


def slow(_: HttpRequest) -> HttpResponse:
    time.sleep(float(os.environ.get("SLEEP", "10")))
    return HttpResponse("Sleep finished")


urlpatterns = [path("", fast), path("sleep", slow)]
