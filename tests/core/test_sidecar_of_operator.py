"""The operator decides about the added container: its user, and its pull secrets."""

from typing import Any

import pytest

from tests.core.passes import judged, once, undone
from webhook.config import ConfigError, parse
from webhook.core.names import STATUS_ANNOTATION

Json = dict[str, Any]
TWO = parse("helper: {imagePullSecrets: [{name: mirror}, {name: other}]}")


def pod(**spec: Any) -> Json:
    web = {"name": "web", "image": "shop", "ports": [{"containerPort": 8080}]}
    return {"metadata": {"name": "p"}, "spec": {"containers": [web], **spec}}


def secrets(patched: Json) -> list[str]:
    return [secret["name"] for secret in patched["spec"].get("imagePullSecrets", ())]


def context(patched: Json) -> Json:
    return dict(patched["spec"]["initContainers"][0]["securityContext"])


@pytest.mark.parametrize(
    ("own", "then"),
    [
        (None, ["mirror", "other"]),
        ([], ["mirror", "other"]),
        (["mine"], ["mine", "mirror", "other"]),
        (["other", "mine"], ["other", "mine", "mirror"]),
        (["mirror", "other"], ["mirror", "other"]),
    ],
)
def test_pull_secrets_are_added_once_and_taken_out_again(
    own: list[str] | None, then: list[str]
) -> None:
    made = pod() if own is None else pod(imagePullSecrets=[{"name": name} for name in own])
    patched, _ = judged(made, TWO)
    assert secrets(patched) == then


def test_pull_secrets_follow_the_configuration() -> None:
    """An older installation's are removed if the operator names others, or none."""
    patched = once(pod(imagePullSecrets=[{"name": "mine"}]), TWO)[0]
    assert secrets(once(patched, parse("helper: {imagePullSecrets: [{name: new}]}"))[0]) == [
        "mine",
        "new",
    ]
    assert secrets(once(patched, parse(""))[0]) == ["mine"]
    assert undone(patched) == pod(imagePullSecrets=[{"name": "mine"}])


def test_pull_secrets_where_there_is_no_helper() -> None:
    made = pod()
    made["metadata"]["annotations"] = {"podgrace.io/mode": "sleep"}
    assert "imagePullSecrets" not in judged(made, TWO)[0]["spec"]


def test_a_list_on_disk_shuts_out_those_of_the_service_account() -> None:
    """The API server fills in `serviceAccount`, and its secrets, before it asks a webhook."""

    def warned(made: Json) -> bool:
        decisions = once(made, TWO)[1].plan.decisions
        return "pull-secrets-alone" in [d.code for d in decisions]

    assert warned(pod(serviceAccountName="mine"))
    assert not warned(pod(imagePullSecrets=[{"name": "mine"}]))
    assert not warned(pod(serviceAccountName="mine", serviceAccount="mine"))
    assert warned(once(pod(), TWO)[0])


def test_a_secret_that_another_webhook_appends_stays() -> None:
    patched = once(pod(), TWO)[0]
    patched["spec"]["imagePullSecrets"].append({"name": "late"})
    again = once(patched, TWO)[0]
    assert sorted(secrets(again)) == ["late", "mirror", "other"]
    assert secrets(undone(again)) == ["late"]


ROOT = {"securityContext": {"runAsUser": 0}}


@pytest.mark.parametrize(
    ("said", "spec", "then"),
    [
        ("{runAsUser: 1000, runAsNonRoot: true}", {}, {"runAsUser": 1000, "runAsNonRoot": True}),
        ("{runAsUser: 1000, runAsNonRoot: true}", ROOT, {"runAsUser": 1000, "runAsNonRoot": True}),
        ("{runAsNonRoot: true, privileged: false}", ROOT, {"privileged": False}),
        ("{runAsNonRoot: true}", {}, {"runAsNonRoot": True}),
        ("{}", ROOT, {}),
    ],
)
def test_the_operators_security_context(said: str, spec: Json, then: Json) -> None:
    """It is unchanged; only runAsNonRoot is dropped if the Pod is root and no user is named."""
    made, config = pod(**spec), parse(f"helper: {{securityContext: {said}}}")
    patched = once(made, config)[0]
    assert once(patched, config)[2] == []
    assert undone(patched) == made
    assert context(patched) == then


def test_our_own_security_context() -> None:
    assert "runAsUser" not in context(judged(pod(), parse(""))[0])
    assert context(judged(pod(**ROOT), parse(""))[0])["runAsUser"] == 65532


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("helper: {securityContext: {runAsuser: 1}}", "helper.securityContext: 'runAsuser'"),
        ("helper: {securityContext: 5}", "helper.securityContext"),
        ("helper: {imagePullSecrets: [regcred]}", "helper.imagePullSecrets[0]"),
        ("helper: {imagePullSecrets: [{name: 'A b'}]}", "helper.imagePullSecrets: 'A b'"),
        ("helper: {imagePullSecrets: [{}]}", "name is required"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"accepted|expected|required") as found:
        parse(text)
    assert said in str(found.value)


def test_the_status_names_what_was_added() -> None:
    patched = once(pod(imagePullSecrets=[{"name": "other"}]), TWO)[0]
    assert '"pullSecrets":["mirror"]' in patched["metadata"]["annotations"][STATUS_ANNOTATION]
