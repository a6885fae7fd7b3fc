"""The built-in profiles: which servers they recognise, and what is true of all."""

import pytest
from msgspec import ValidationError, convert
from msgspec.structs import replace

from webhook.core.balancer import Balancer, slowest
from webhook.core.profile import GENERIC, Index, Profile, merged
from webhook.profiles import BALANCERS, BUILT_IN, LAUNCHERS

INDEX = Index(BUILT_IN.values(), LAUNCHERS)


@pytest.mark.parametrize(
    ("command", "profile"),
    [
        (["docker-entrypoint.sh", "mysqld"], "mysql"),
        (
            ["/opt/bitnami/scripts/mariadb/entrypoint.sh", "/opt/bitnami/scripts/mariadb/run.sh"],
            "mysql",
        ),
        (["gosu", "postgres", "postgres", "-c", "port=1"], "postgres"),
        (["sh", "-c", "exec redis-server /etc/redis.conf"], "redis"),
        (["mongod", "--replSet", "rs0"], "mongodb"),
        (["/opt/bitnami/scripts/mongodb-sharded/run.sh"], "mongodb"),
        (["/usr/lib/erlang/erts-14/bin/beam.smp", "-W", "w", "-s", "rabbit", "boot"], "rabbitmq"),
        (["beam.smp", "-s", "our_app"], None),
        (["java", "-Xmx1G", "-cp", "/opt/kafka/libs/*", "kafka.Kafka", "server.conf"], "kafka"),
        (["bin/kafka-server-start.sh", "config/server.properties"], "kafka"),
        (["java", "-Des.networkaddress.cache.ttl=60", "-m", "org.elasticsearch"], "elasticsearch"),
        (["java", "-Dcassandra.logdir=/var/log", "x"], "cassandra"),
        (["java", "-Dzookeeper.log.dir=/logs", "x"], "zookeeper"),
        (["java", "-Dopensearch.path.home=/x", "x"], "opensearch"),
        (["java", "-jar", "/app.jar"], "java"),
        (["etcd", "--name", "a"], "etcd"),
        (["memcached", "-m", "64"], "memcached"),
        (["/nats-server", "-c", "x"], "nats"),
        (["clickhouse", "server"], "clickhouse"),
        (["clickhouse", "client"], None),
        (["minio", "server", "/data"], "minio"),
        (["consul", "agent", "-server"], "consul"),
        (["consul", "watch"], None),
        (["vault", "agent"], None),
        (["cockroach", "start-single-node"], "cockroachdb"),
        (["celery", "-A", "shop", "worker", "-l", "info"], "celery"),
        (["python", "-m", "celery", "-A", "shop", "beat"], "celery"),
        (["celery", "-A", "shop", "flower"], None),
        (["bundle", "exec", "sidekiq", "-C", "config.yml"], "sidekiq"),
        (["bundle", "exec", "rake", "resque:work"], "resque"),
        (["bundle", "exec", "rake", "db:migrate"], None),
        (["python", "manage.py", "rqworker"], "dev-server"),
        (["python", "manage.py", "run_huey"], "huey"),
        (["php", "artisan", "queue:work", "--tries=3"], "php-worker"),
        (["php", "artisan", "serve"], None),
        (["poetry", "run", "dramatiq", "shop.tasks"], "dramatiq"),
    ],
)
def test_a_command_names_its_server(command: list[str], profile: str | None) -> None:
    found = INDEX.by_command(command)
    assert (found and found.name) == profile


@pytest.mark.parametrize(
    ("image", "profile"),
    [
        ("docker.io/bitnami/postgresql:17", "postgres"),
        ("quay.io/minio/minio@sha256:0", "minio"),
        ("confluentinc/cp-kafka:7.8.0", "kafka"),
        ("docker.elastic.co/elasticsearch/elasticsearch:9.1.0", "elasticsearch"),
        ("bitnami/mongodb-sharded", "mongodb"),
        ("ours/nginx-of-ours", None),
    ],
)
def test_an_image_is_known_by_its_last_element(image: str, profile: str | None) -> None:
    found = INDEX.by_image(image)
    assert (found and found.name) == profile


@pytest.mark.parametrize(
    ("image", "args", "profile"),
    [
        ("hashicorp/vault:1", ["server", "-dev"], "vault"),
        ("hashicorp/vault:1", [], "vault"),
        ("hashicorp/vault:1", ["-x"], "vault"),
        ("hashicorp/vault:1", ["agent", "-config=/x"], None),
        ("minio/minio", ["server", "/data"], "minio"),
        ("cockroachdb/cockroach", ["sql"], None),
        ("nginx", ["sh", "-c", "tail -F /var/log/nginx/access.log"], None),
        ("nginx", ["sh", "-c", "exec nginx"], "nginx"),
        ("nginx", ["nginx-debug", "-g", "daemon off;"], "nginx"),
    ],
)
def test_an_images_arguments_may_name_another_of_its_programs(
    image: str, args: list[str], profile: str | None
) -> None:
    found = INDEX.by_image(image, args)
    assert (found and found.name) == profile


@pytest.mark.parametrize("profile", BUILT_IN.values(), ids=BUILT_IN.keys())
def test_what_holds_for_every_profile(profile: Profile) -> None:
    assert INDEX.by_name[profile.name] is profile
    for entry in profile.match:
        name, _, argument = entry.partition(" ")
        words = [name.replace("*", "1"), *([argument] if argument else [])]
        assert INDEX.by_command(words) is profile, f"{entry!r} is hidden by another profile"
    for image in profile.images:
        assert INDEX.by_image(f"hub.example/{image}:1") is profile
    if profile.worker:
        assert not profile.images, "an image says nothing about its command"
    if not profile.observe and profile.match and not profile.worker:
        assert profile.ports
    assert profile.signal == "TERM" or profile.signal in profile.stop_on


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"signal": "SIGQUIT"}, "signal 'SIGQUIT': accepted: ABRT"),
        ({"stop-on": ["KILL"]}, "signal 'KILL'"),
        ({"match": ["a,b"]}, "match 'a,b': accepted: a name"),
        ({"match": ["/bin/a"]}, "match '/bin/a'"),
        ({"match": ["a b c"]}, "match 'a b c'"),
        ({"images": ["a/b:1"]}, "images 'a/b:1': accepted: the last path element"),
        ({"ports": [0]}, "ports 0: accepted: 1 to 65535"),
        ({"target": "all"}, "Invalid enum value 'all'"),
        ({"patience": -1}, "0 or more"),
        ({"worker": True}, "observe must be false"),
        ({"finishes": True, "observe": False}, "only where requests are observed"),
        ({"sginal": "TERM"}, "unknown field `sginal`"),
    ],
)
def test_a_mistake_in_a_table_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        convert({"name": "ours", **fields}, Profile)
    assert message in str(caught.value)


def test_the_operators_own_profile_is_tried_first() -> None:
    ours = Profile(name="ours", match=("nginx -c",), images=("nginx",), signal="HUP")
    index = merged(BUILT_IN, {"ours": ours}, LAUNCHERS)
    assert index.by_command(["nginx", "-c", "x"]) is ours
    assert index.by_command(["nginx"]).name == "nginx"
    assert index.by_image("nginx") is ours
    changed = replace(BUILT_IN["nginx"], patience=60)
    assert merged(BUILT_IN, {"nginx": changed}, LAUNCHERS).by_command(["nginx"]).patience == 60
    assert index.by_name["generic"] is GENERIC


def test_of_two_balancers_the_slower_one_counts() -> None:
    known = tuple(BALANCERS.values())
    assert slowest(["target-health.elbv2.k8s.aws/k8s-a-b"], known).name == "aws"
    assert slowest(["cloud.google.com/load-balancer-neg-ready"], known).name == "gke"
    assert slowest(["service.readiness.alibabacloud.com/web"], known).name == "alibaba"
    gate = "cloud.tencent.com/load-balancer-backendgroup-ready"
    assert slowest([gate], known).name == "tencent"
    assert slowest(["our.example/ready"], known) is None
    assert slowest([], known) is None
    ours = Balancer("ours", ("our.example/",), 90)
    gates = ["cloud.google.com/load-balancer-neg-ready", "our.example/ready"]
    assert slowest(gates, (*known, ours)) is ours
    assert all(b.source and b.delay >= 30 for b in known)


@pytest.mark.parametrize(
    "fields",
    [{"gates": (), "delay": 1}, {"gates": ("",), "delay": 1}, {"gates": ("a",), "delay": 0}],
)
def test_a_balancer_is_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="accepted"):
        Balancer("ours", **fields)
