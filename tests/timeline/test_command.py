"""The whole command beside a cluster that is a folder: what it makes, removes and accepts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.timeline.cluster import Folder
from webhook.cli import main

PODGRACE = (sys.executable, "-m", "webhook.cli", "timeline")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def test_a_pod_of_its_own_comes_and_goes_and_all_is_removed(
    cluster: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """No client reaches the Pod here: that is said, and the API's side is told all the same."""
    words = [
        "--from",
        "here",
        "--dns",
        "127.0.0.1",
        "--timeout",
        "2",
        "--linger",
        "0",
        "-o",
        "json",
    ]
    code = main(["timeline", "--kubeconfig", "mine", "--repeat", "2", *words])
    out = capsys.readouterr()
    report = json.loads(out.out)
    assert code == 0
    assert [pod["name"].rpartition("-")[2] for pod in report["pods"]] == ["1", "2"]
    assert next(row["moment"] for row in report["coming"]) == "created"
    assert {"ready", "told", "gone"} <= {
        row["moment"] for row in report["coming"] + report["going"]
    }
    assert any("Service, asked from here: no answer from" in it for it in report["troubles"])
    kinds = [tree["kind"] for tree in cluster.created]
    assert kinds == ["Service", "Service", "Pod", "Pod", "Pod"]
    instance = cluster.created[0]["metadata"]["name"]
    assert cluster.lines("deleted")[-2:] == [
        f"{kind} --selector app.kubernetes.io/instance={instance} --grace-period=1"
        " --wait=false --ignore-not-found"
        for kind in ("services", "pods")
    ]
    assert all("--kubeconfig=mine" in line for line in cluster.lines("asked"))


def test_what_is_made_has_no_rights_and_asks_for_none(cluster: Folder) -> None:
    """Pod Security `restricted` takes it, the webhook leaves it alone, and it ends by itself."""
    main(["timeline", "--from", "here", "--timeout", "1", "--linger", "0", "--alone"])
    pods = [tree for tree in cluster.created if tree["kind"] == "Pod"]
    assert len(pods) == 1  # alone
    spec = pods[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 3600
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pods[0]["metadata"]["labels"]["podgrace.io/inject"] == "disabled"
    assert not {"hostNetwork", "hostPID", "volumes"} & spec.keys()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_removes_what_it_made(cluster: Folder, number: signal.Signals) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = (*PODGRACE, "--from", "here", "--timeout", "300")
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True) as command:
        assert command.stderr
        assert "1 of 1" in command.stderr.readline()
        command.send_signal(number)
        said = command.stderr.read()
        assert command.wait(60) == 130
    assert said.splitlines() == ["stopping; removing what was made"]
    assert [line.split()[0] for line in cluster.lines("deleted")] == ["services", "pods"]


def test_an_observer_that_can_not_run_is_an_error_with_the_reason_and_all_is_removed(
    cluster: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    pod = {
        "metadata": {"name": "x-asks-1"},
        "status": {"phase": "Pending", "containerStatuses": [{"state": state}]},
    }
    cluster.holds("pods", {"items": [pod]})
    code = main(["timeline", "--from", "node-1"])
    said = capsys.readouterr().err
    assert code == 1
    assert "podgrace: x-asks-1: ImagePullBackOff: no such image; an image with podgrace" in said
    assert [line.split()[0] for line in cluster.lines("deleted")] == ["services", "pods"]
    observer = next(tree for tree in cluster.created if "asks" in tree["metadata"]["name"])
    assert observer["spec"]["containers"][0]["args"] == ["timeline", "--as", "observer"]
    assert "node-1" in json.dumps(observer["spec"]["affinity"])


def test_nodes_that_take_no_pods_are_left_out(
    cluster: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    taint = {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    nodes = [
        {"metadata": {"name": "control"}, "spec": taint, "status": ready},
        {"metadata": {"name": "cordoned"}, "spec": {"unschedulable": True}, "status": ready},
        {"metadata": {"name": "broken"}, "status": {"conditions": []}},
    ]
    cluster.holds("nodes", {"items": nodes})
    assert main(["timeline"]) == 1
    assert "no node is Ready and without a taint: name one with --from" in capsys.readouterr().err


def test_a_node_that_is_not_there_is_named_at_once(
    cluster: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.holds("nodes", {"items": [{"metadata": {"name": "node-1"}}]})
    assert main(["timeline", "--from", "node-1,node-2"]) == 1
    assert 'nodes "node-2" not found' in capsys.readouterr().err
    assert {made["kind"] for made in cluster.created} <= {"Service", "Pod"}
    assert not any("asks" in made["metadata"]["name"] for made in cluster.created)


def test_a_right_that_is_missing_is_an_error_with_the_servers_words(
    cluster: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["timeline"]) == 1  # the folder gives no nodes
    assert "kubectl get: nodes is forbidden" in capsys.readouterr().err
    assert [line.split()[0] for line in cluster.lines("deleted")] == ["services", "pods"]


def test_pods_of_others_are_watched_while_a_command_rolls_them(
    cluster: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made; each Pod that came and each that went is in the report."""

    def pod(name: str, kind: str, *, ready: bool = True, told: bool = False) -> None:
        meta = {"name": name, "uid": name}
        if told:
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        true = [{"type": "Ready", "status": str(ready)}]
        status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": true}
        spec = {"containers": [{"ports": [{"containerPort": 9}]}]}
        cluster.tell("pods", kind, {"metadata": meta, "spec": spec, "status": status})

    pod("old", "ADDED")

    def roll() -> None:
        while "rolled" not in {path.name for path in cluster.folder.iterdir()}:
            time.sleep(0.05)
        pod("new", "ADDED", ready=False)
        time.sleep(0.3)
        pod("new", "MODIFIED")
        pod("old", "MODIFIED", told=True)
        time.sleep(0.3)
        pod("old", "DELETED", told=True)

    thread = threading.Thread(target=roll, daemon=True)
    thread.start()
    command = ["--", "touch", str(cluster.folder / "rolled")]
    code = main(["timeline", "--pods", "app=shop", "-o", "json", *command])
    thread.join(30)
    report = json.loads(capfd.readouterr().out)
    assert code == 0
    assert {it["name"]: bool(it["coming"]) for it in report["pods"]} == {"old": False, "new": True}
    gone = next(it for it in report["pods"] if it["name"] == "old")["going"][-1]
    assert gone["moment"] == "gone"
    assert gone["seconds"] > 0.1
    assert cluster.created == []
    assert cluster.lines("deleted") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shop"], "'shop' is not an option; a command comes after --"),
        (["--", "true"], "a command after -- needs --pods"),
        (["--service", "shop"], "--service, --port and --path need --pods"),
        (["--pods", "a=b", "--alone"], "accepted only without --pods"),
        (["--ingress", "http://x/"], "--ingress URL and --ingress-class NAME need each other"),
        (["--ingress", "ftp://x/"], "accepted: http://HOST[:PORT]/PATH"),
        (["--every", "0"], "accepted: 0.01 to 60"),
        (["--repeat", "1.5"], "accepted: 1 to 1000"),
        (["--from", ","], "accepted: nodes, here, names of nodes"),
    ],
)
def test_words_that_do_not_fit_say_what_is_accepted(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["timeline", *words])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
