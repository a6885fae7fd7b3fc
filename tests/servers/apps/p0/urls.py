"""`/` answers after 20 ms, `/sleep` after ten seconds, `/slow` after four."""

import time

from django.http import HttpRequest, HttpResponse
from django.urls import path


def normal(_: HttpRequest) -> HttpResponse:
    time.sleep(0.02)
    return HttpResponse("OK")


def sleep(_: HttpRequest, seconds: int) -> HttpResponse:
    time.sleep(seconds)
    return HttpResponse("Sleep finished")


urlpatterns = [
    path("", normal),
    path("sleep", sleep, {"seconds": 10}),
    path("slow", sleep, {"seconds": 4}),
]
