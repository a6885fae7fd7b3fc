"""What a command line says about ports: who may connect, and whom a connection would disturb."""

import pytest

from webhook.core.arguments import read

LOCAL = [
    "uvicorn shop:app",
    "uvicorn shop:app --port 8000",
    "python -m uvicorn shop:app --port $PORT",
    "cd /app && exec uvicorn shop:app --workers 4",
    "gunicorn shop.wsgi --workers=3",
    "hypercorn shop:app",
    "granian --interface asgi shop:app",
    "daphne shop.asgi:application",
    "daphne -p 8000 shop.asgi:application",
    "python manage.py runserver",
    "python manage.py runserver 8000",
    "flask --app shop run --port=8000",
    "fastapi dev shop.py",
]
OPEN = [
    "uvicorn shop:app --host 0.0.0.0 --port 8000",
    "uvicorn shop:app --host=:: --port 8000",
    "uvicorn shop:app --host $POD_IP",
    "gunicorn shop.wsgi -b :8000",
    "gunicorn shop.wsgi -b0.0.0.0:8000",
    "gunicorn -c /etc/gunicorn.py shop.wsgi",
    "hypercorn --config hypercorn.toml shop:app",
    "daphne -b 0.0.0.0 -p 8000 shop.asgi:application",
    "python manage.py runserver 0:8000",
    "python manage.py runserver 0.0.0.0:8000",
    "python manage.py rungreen",
    "flask run -h 0.0.0.0 --port 8000",
    "fastapi run shop.py",
    "waitress-serve shop:app",
    "/srv/uvicorn-like",
]


@pytest.mark.parametrize("line", LOCAL)
def test_a_server_that_is_told_no_address_listens_on_its_default(line: str) -> None:
    assert read(["sh", "-c", line]).closed(8000)
    assert read(line.split()).closed(8000)


@pytest.mark.parametrize("line", OPEN)
def test_a_server_that_is_told_one_does_not(line: str) -> None:
    assert not read(["sh", "-c", line]).closed(8000)
    assert not read(line.split()).closed(8000)


@pytest.mark.parametrize(
    ("name", "value", "closed"),
    [
        ("UVICORN_HOST", "0.0.0.0", False),
        ("HOST", "0.0.0.0", False),
        ("PORT", "8000", True),
        ("UVICORN_PORT", "8000", True),
    ],
)
def test_a_variable_tells_it_too(name: str, value: str, closed: bool) -> None:
    assert read(["uvicorn", "shop:app"], {name: value}).closed(8000) == closed


def test_variables_hold_arguments() -> None:
    gunicorn = ["gunicorn", "shop.wsgi"]
    assert not read(gunicorn, {"GUNICORN_CMD_ARGS": "--bind=0.0.0.0:8000"}).closed(8000)
    java = ["java", "-jar", "/app.jar"]
    assert read(java, {"JAVA_TOOL_OPTIONS": "-Dserver.address=127.0.0.1"}).closed(8000)
    assert read(["dotnet", "App.dll"], {"ASPNETCORE_URLS": "http://localhost:8000"}).closed(8000)
    assert not read(["dotnet", "App.dll"], {"ASPNETCORE_URLS": "http://+:8000"}).closed(8000)


@pytest.mark.parametrize(
    "line",
    [
        "/store --peers=a:1,b:1",
        "/store --join store-0.store",
        "/store -cluster.peer=a:9094",
        "/store --initial-cluster=a=http://a:2380",
        "/store -bootstrap-expect=3",
        "java -Dakka.cluster.seed-nodes=akka://a -jar /a.jar",
        "java -Djgroups.dns.query=shop -jar /a.jar",
        "/store --raft-dir=/d",
    ],
)
def test_a_member_of_a_cluster_has_peers(line: str) -> None:
    assert read(line.split()).peers


@pytest.mark.parametrize(
    "name", ["CASSANDRA_SEEDS", "HZ_NETWORK_JOIN_KUBERNETES_ENABLED", "SEED_NODES"]
)
def test_peers_in_a_variable(name: str) -> None:
    assert read(["/store"], {name: "true"}).peers


@pytest.mark.parametrize(
    "line",
    [
        "/server --seed 42",
        "/server join",
        "/server --peers=false",
        "/server --joiner=x",
        "/server --craft=x",
    ],
)
def test_a_word_like_it_is_no_peer(line: str) -> None:
    assert not read(line.split()).peers


@pytest.mark.parametrize(
    "line",
    [
        "TCP-LISTEN:5432,fork TCP:db:5432",
        "tcp4-l:80,fork exec:/bin/date",
        "OPENSSL-LISTEN:443,fork -",
        "socat - -",
    ],
)
def test_an_address_of_socat_starts_work_for_each_connection(line: str) -> None:
    assert read(line.split()).per_connection
