"""Reason codes: the fixed vocabulary in which a decision explains itself.

In: nothing. Out: `REASONS`, one entry per code: a sentence for people, what they could change, and
whether it deserves an admission warning. A code is stable: it is a metric label, part of the status
annotation and of the audit log. Numbers and names of one Pod do not belong in a code; they are the
`detail` of a decision.

Who is left alone (whole Pod):

| the Pod                                   | code               |
|-------------------------------------------|--------------------|
| label podgrace.io/inject: disabled        | opted-out          |
| in an excluded namespace                  | excluded-namespace |
| mirror Pod of a static manifest           | mirror-pod         |
| restartPolicy is not Always (Jobs)        | not-restarting     |
| annotations of 256 KiB already            | annotations-full   |
| over 1.5 MiB, 256 containers, 1000 ports  | oversized          |

A Pod in which no container needs anything gets only the status annotation (`nothing-to-do`), so
that an audit can tell it from one that never passed the webhook.
"""

from typing import Final

import msgspec


class Reason(msgspec.Struct, frozen=True):
    """A code's sentence; `hint`: what would change it; `warn`: tell the caller of the API."""

    sentence: str
    hint: str = ""
    warn: bool = False


REASONS: Final[dict[str, Reason]] = {
    # the whole Pod is left alone
    "opted-out": Reason("the Pod's label says disabled", "label podgrace.io/inject"),
    "excluded-namespace": Reason(
        "the operator excludes this namespace", "config excludedNamespaces"
    ),
    "mirror-pod": Reason(
        "a mirror Pod: the kubelet runs the static manifest whatever the API holds"
    ),
    "not-restarting": Reason(
        "it ends by itself (restartPolicy is not Always): nothing to drain", "spec.restartPolicy"
    ),
    "annotations-full": Reason(
        "its annotations leave no room for the status: the API server would refuse it",
        "its annotations",
        warn=True,
    ),
    "oversized": Reason(
        "over 1.5 MiB, 131072 strings, 256 containers, 1000 ports or 48 hooks: too big to decide",
        "its spec",
        warn=True,
    ),
    "nothing-to-do": Reason(
        "no container needs anything: their reasons say why", "podgrace.io/mode.<container>"
    ),
    "not-a-pod": Reason("only Pods are patched"),
    "not-create": Reason(
        "only the creation of a Pod is patched: most of its spec is immutable afterwards"
    ),
    "sub-resource": Reason("sub-resources of Pods are never patched"),
    # a container is left alone
    "turned-off": Reason("turned off by annotation", "podgrace.io/mode.<container>"),
    "serves-nothing": Reason(
        "no port is known: none declared, probed, or named by its arguments",
        "podgrace.io/ports.<container> or podgrace.io/mode.<container>",
    ),
    "no-users": Reason(
        "only ports for metrics, administration or peers: no user waits for its answers",
        "podgrace.io/ports.<container>",
    ),
    "worker": Reason(
        "takes tasks from a queue: no delay, its own signal, and as much time as it had",
        "podgrace.io/profile.<container>",
    ),
    "worker-signalled": Reason(
        "a worker that already gets the kubelet's TERM: nothing to add",
        "podgrace.io/profile.<container>",
    ),
    "asked-in-vain": Reason(
        "opted in, but left alone: name the ports that it serves in podgrace.io/ports",
        "podgrace.io/ports.<container> or podgrace.io/mode.<container>",
        warn=True,
    ),
    "held": Reason(
        "kept running, without a signal, until the other containers have drained: they may need it",
        "podgrace.io/mode.<container>: off",
    ),
    "not-held": Reason(
        "stops at once, while other containers still answer and may need it",
        "podgrace.io/existing-prestop.<container>, or make it a native sidecar",
        warn=True,
    ),
    "native-sidecar": Reason(
        "a native sidecar: the kubelet already stops it after the containers", ""
    ),
    # which rung, and the falls
    "wrap": Reason(
        "the helper is PID 1: it translates the stop signal, reaps, and ends at a deadline",
        "podgrace.io/mode.<container>",
    ),
    "hook": Reason(
        "preStop runs the helper, which waits for deregistration and in-flight requests and then "
        "stops the server",
        "podgrace.io/mode.<container>",
    ),
    "hook-http": Reason(
        "preStop asks the sidecar to wait, since our volume cannot be mounted here", ""
    ),
    "sleep": Reason("native preStop sleep", "podgrace.io/mode.<container>"),
    "mesh-aligned": Reason(
        "a mesh proxy: kept running until the other containers have drained",
        "podgrace.io/mode.<container>",
    ),
    "mesh-native": Reason(
        "a mesh proxy that is a native sidecar: it already outlives the containers"
    ),
    "mesh-own-prestop": Reason(
        "a mesh proxy with a preStop of its own: check that it lasts as long as the drain",
        "",
        warn=True,
    ),
    "entrypoint-unknown": Reason(
        "not wrapped: the image's entrypoint is not in the Pod",
        "podgrace.io/entrypoint.<container> or spec command",
    ),
    "already-init": Reason("not wrapped: its command already is an init"),
    "names-pid-1": Reason(
        "not wrapped: its command, a probe or a hook names PID 1, which the helper would be",
        "its probes and hooks",
    ),
    "shared-pid-namespace": Reason(
        "the kubelet sends the signal, not the helper, which sees other containers' processes",
        "spec.shareProcessNamespace",
    ),
    "mode-not-allowed": Reason(
        "the operator does not allow this mode", "config bounds.modes", warn=True
    ),
    "sidecar-off": Reason(
        "no helper: the sidecar is switched off", "podgrace.io/sidecar or config patches.sidecar"
    ),
    "unsupported-version": Reason(
        "the cluster's version lacks the native field", "config kubernetes"
    ),
    "windows": Reason("Windows: native sleep only"),
    "wasm": Reason("WebAssembly runs no Linux program: native sleep only", "spec.runtimeClassName"),
    "virtual-node": Reason(
        "it may run on a virtual node, where neither init containers nor hooks are sure to work: "
        "native sleep only",
        "spec.tolerations or spec.nodeSelector",
    ),
    "pod-resources": Reason(
        "no helper: the Pod's own resource total has no room for the sidecar",
        "spec.resources or config helper.resources",
        warn=True,
    ),
    "name-collision": Reason(
        "a container or volume named podgrace is not ours: no helper", "rename it", warn=True
    ),
    "mount-collision": Reason(
        "its mounts already hold /.podgrace, where the helper goes",
        "its volumeMounts",
        warn=True,
    ),
    "host-network": Reason("host network: the sidecar opens no port"),
    "prestop-off": Reason(
        "preStop is switched off", "podgrace.io/prestop or config patches.preStop"
    ),
    "balancer": Reason(
        "a cloud load balancer sends straight to the Pod, and deregisters it late",
        "podgrace.io/delay.<container> or config bounds.delayMax",
    ),
    # preStop
    "prestop-added": Reason("had no preStop", "podgrace.io/prestop.<container>"),
    "prestop-offline": Reason(
        "its server leaves its registry first, then our wait begins",
        "podgrace.io/profile.<container>",
    ),
    "prestop-before": Reason(
        "its own preStop runs first, then ours", "podgrace.io/existing-prestop.<container>"
    ),
    "prestop-after": Reason(
        "its own preStop may stop it, so it runs after ours",
        "podgrace.io/existing-prestop.<container>",
    ),
    "prestop-after-guess": Reason(
        "its own preStop looks as if it stops the server (a guess), so it runs after ours",
        "podgrace.io/existing-prestop.<container>",
    ),
    "prestop-kept": Reason(
        "its own preStop is kept as it is", "podgrace.io/existing-prestop.<container>"
    ),
    "prestop-kept-sleep": Reason(
        "its own preStop is kept: a native sleep cannot be added to it",
        "podgrace.io/mode.<container>: hook",
    ),
    "prestop-kept-long": Reason(
        "its own preStop is over 128 KiB: kept as it is", "a script in the image", warn=True
    ),
    "prestop-kept-tcp": Reason(
        "its own preStop is a tcpSocket, which fails at run time: kept as it is",
        "remove it",
        warn=True,
    ),
    "prestop-kept-http": Reason(
        "its own preStop is a request that the helper cannot send: kept as it is",
        "make it plain http",
    ),
    "not-drained": Reason(
        "nothing waits for its requests: its own preStop stays alone",
        "make it plain http",
        warn=True,
    ),
    # grace period
    "grace-raised": Reason("raised to the budget", "podgrace.io/grace-period"),
    "grace-enough": Reason("long enough already"),
    "grace-off": Reason(
        "left as it is: switched off", "podgrace.io/grace-period or config patches.gracePeriod"
    ),
    "grace-zero": Reason(
        "0 is a deliberate immediate kill: no hook would run, so none is added",
        "spec.terminationGracePeriodSeconds",
        warn=True,
    ),
    "grace-capped": Reason(
        "the budget is over the bound: waits are shortened to fit",
        "config bounds.gracePeriod",
        warn=True,
    ),
    "grace-over-bound": Reason(
        "the Pod's own grace period is already at the bound: the waits come out of it",
        "config bounds.gracePeriod",
    ),
    "spot-node": Reason(
        "its nodes go sooner after their notice than the grace period ends: choose shorter waits",
        "podgrace.io/delay and podgrace.io/drain-timeout",
        warn=True,
    ),
    "grace-no-room": Reason(
        "the grace period has no room for a wait", "podgrace.io/grace-period", warn=True
    ),
    # readiness probe
    "readiness-kept": Reason("has one"),
    "readiness-annotated": Reason("added as annotated", "podgrace.io/readiness-probe.<container>"),
    "readiness-liveness": Reason(
        "added: the liveness probe's handler", "podgrace.io/readiness-probe.<container>"
    ),
    "readiness-startup": Reason(
        "added: the startup probe's handler", "podgrace.io/readiness-probe.<container>"
    ),
    "readiness-tcp": Reason(
        "added: TCP on the one port that serves users", "podgrace.io/readiness-probe.<container>"
    ),
    "readiness-unproven": Reason(
        "not added: nothing says that a port serves users as soon as the program runs",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-stateful": Reason(
        "not added: its Pods may wait for each other before they open a port",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-virtual-node": Reason(
        "not added: it may run on a virtual node, which may refuse a Pod with a TCP probe",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-elected": Reason(
        "not added: its arguments mention a leader, and perhaps only the leader opens the port",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-per-connection": Reason(
        "not added: each connection starts work, and so would each probe",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-neighbour": Reason(
        "not added: another container serves, and one must not take the other out of its Service",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-handshake": Reason(
        "not added: its protocol counts a bare connection as an error",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-udp": Reason(
        "not added: its port is UDP by name, number or arguments",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-ambiguous": Reason(
        "not added: several ports could be the one that serves users",
        "podgrace.io/readiness-port.<container>",
    ),
    "readiness-no-port": Reason(
        "not added: no port that serves users is known", "podgrace.io/readiness-port.<container>"
    ),
    "rollout-unprotected": Reason(
        "a rollout does not wait until it answers: set podgrace.io/readiness-probe",
        "podgrace.io/readiness-probe.<container>",
        warn=True,
    ),
    "readiness-mesh": Reason(
        "not added: a mesh rewrites probes and would not see ours",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-host": Reason(
        "not added: its own probe names a host", "podgrace.io/readiness-probe.<container>"
    ),
    "readiness-loopback": Reason(
        "not added: its arguments or its server's default bind the port to loopback, where no "
        "probe arrives",
        "podgrace.io/readiness-probe.<container>",
    ),
    "readiness-off": Reason(
        "switched off", "podgrace.io/readiness-probe or config patches.readinessProbe"
    ),
    # the sidecar and profile
    "sidecar-added": Reason(
        "native sidecar with the helper, first in initContainers", "podgrace.io/sidecar"
    ),
    "helper-mounted": Reason(
        "the helper is mounted from its image; no sidecar", "config helper.delivery"
    ),
    "pull-secrets-added": Reason(
        "pull secrets for the helper's image", "config helper.imagePullSecrets"
    ),
    "pull-secrets-alone": Reason(
        "a Pod that lists pull secrets does not get its ServiceAccount's: list those too",
        "spec.imagePullSecrets",
        warn=True,
    ),
    "profile-annotated": Reason("profile chosen by annotation", "podgrace.io/profile.<container>"),
    "profile-command": Reason("profile seen in the command", "podgrace.io/profile.<container>"),
    "profile-image": Reason(
        "profile seen in the image or its arguments; the helper looks at the process tree too",
        "podgrace.io/profile.<container>",
    ),
    "profile-generic": Reason(
        "server not recognised: the helper looks at the process tree when it stops",
        "podgrace.io/profile.<container>",
    ),
    # annotations that cannot be used
    "annotation-unknown": Reason("unknown annotation ignored", "", warn=True),
    "annotation-invalid": Reason("annotation not understood: the default is used", "", warn=True),
    "annotation-bounded": Reason(
        "annotation is over the operator's bound: the bound is used", "config bounds", warn=True
    ),
    "annotation-refused": Reason(
        "annotation refused: the operator switched this off", "config patches", warn=True
    ),
    "annotation-no-container": Reason(
        "annotation for a container that the Pod does not have", "", warn=True
    ),
    "annotations-more": Reason("more annotations could not be used as written"),
    "label-unknown": Reason(
        "label podgrace.io/inject is neither enabled nor disabled",
        "label podgrace.io/inject",
        warn=True,
    ),
    # Pods that run already (audit)
    "slipped-through": Reason(
        "opted in, but never passed the webhook: it was down, or not yet installed",
        "kubectl rollout restart",
    ),
    "other-version": Reason("decided by another version", "kubectl rollout restart"),
    "mark-unreadable": Reason("its status annotation cannot be read", "kubectl rollout restart"),
    # us
    "bug": Reason(
        "podgrace failed on this Pod and left it unchanged: please report it", "", warn=True
    ),
    "overload": Reason("podgrace is overloaded and left the Pod unchanged", "", warn=True),
}
