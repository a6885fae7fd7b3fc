"""One run: what it makes, asks, deletes and waits for; what was seen out.

| without --pods                                         | with --pods                             |
|--------------------------------------------------------|-----------------------------------------|
| two Services and a Pod that stays are made; then, as   | only observers are made, if other       |
| often as wished, a Pod comes, is reached by every way, | places than here are named; the command |
| is deleted, and no way leads to it any more; all of it | after -- runs, as often as wished, or   |
| is removed, however the run ends                       | the run waits for Pods that come and go |
"""

import argparse
import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from webhook import __version__
from webhook.cli.timeline import manifests
from webhook.cli.timeline.hub import HERE, Hub, Target
from webhook.cli.timeline.kube import Kube
from webhook.cli.timeline.lives import Life, moment
from webhook.cli.timeline.manifests import Plan
from webhook.cli.timeline.sight import HEADLESS, INGRESS, NAME, PATHS, SERVICE, Question
from webhook.cli.watching import disturbance, streams
from webhook.cli.watching.streams import Resource, WatchError

NODES: Final = "nodes"
MOST: Final = 10
"""Most nodes with an observer for `nodes`; a list of names may be longer."""
_START: Final = 90.0
_FIRST: Final = 10.0
_QUIET: Final = 1.0
_HOLD: Final = 2.0
"""Seconds for which a Pod that has come stays."""
_SELDOM: Final = 1.0
"""Seconds between questions whose answer does not change."""
_PAUSE: Final = 2.0
_DNS: Final = 53


class Found(NamedTuple):
    """What a run saw."""

    lives: tuple[Life, ...]
    unsure: dict[str, float]
    troubles: tuple[str, ...]
    namespace: str


async def run(args: argparse.Namespace, options: Sequence[str], command: list[str]) -> Found:
    """Run it. Raises `WatchError` where nothing can be seen."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, _stopped, task)
    kube = Kube(options, args.namespace)
    plan = Plan(
        f"{manifests.NAME}-{secrets.token_hex(3)}",
        args.image or f"podgrace/podgrace:{__version__}",
        args.start,
        args.linger,
        not args.no_probe,
    )
    made = _Run(args, options, command, kube, plan)
    return await (made.watch_others() if args.pods else made.watch_own())


def _stopped(task: "asyncio.Task[Any]") -> None:
    """Stop at the first signal; later ones don't keep it from tidying up."""
    if not task.cancelling():
        say("stopping; removing what was made")
        task.cancel()


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


class _Run:
    def __init__(
        self,
        args: argparse.Namespace,
        options: Sequence[str],
        command: list[str],
        kube: Kube,
        plan: Plan,
    ) -> None:
        self._args, self._options, self._command = args, tuple(options), command
        self._kube, self._plan = kube, plan
        self._http = bool(args.path) or not args.pods
        ask = "http" if self._http else "tcp"
        self._hub = Hub(args.every, Target(ask, args.port or 0))
        self._places: list[str] = []
        self._namespace = args.namespace
        self._broken: set[tuple[str, str]] = set()

    # -- a workload of our own

    async def watch_own(self) -> Found:
        """Make a Pod come and go."""
        args, plan, hub = self._args, self._plan, self._hub
        async with self._removed():
            service, headless = await self._kube.create(*manifests.services(plan))
            self._namespace = service["metadata"]["namespace"]
            if args.ingress_class:
                await self._kube.create(manifests.ingress(plan, args.ingress_class, self._host))
            if not args.alone:
                await self._kube.create(manifests.server(plan, f"{plan.instance}-stays"))
            async with self._watching(
                f"{plan.selector},{manifests.PART}=server", plan.slices, len((service, headless))
            ):
                if not args.alone:
                    await hub.until(self._all_ready, _START, "the Pod that stays was not Ready")
                hub.ask(self._questions([service, headless], manifests.PORT))
                await self._listen()
                hub.ready = True
                for number in range(1, args.repeat + 1):
                    await self._once(number)
                return self._found()

    async def _once(self, number: int) -> None:
        """Let one Pod come and go."""
        hub, limit = self._hub, self._args.timeout
        name = f"{self._plan.instance}-{number}"
        since = hub.now()
        say(f"{number} of {self._args.repeat}: {name} comes")
        await self._kube.create(manifests.server(self._plan, name))
        come = await hub.until(lambda: self._reached(self._life(name, since)), limit)
        if moment(self._life(name, since).coming, "ready") is None:
            raise WatchError(f"{name} was not Ready within {limit:g} s")
        if not come:
            self._give_up(self._life(name, since))
        await asyncio.sleep(_HOLD)
        say(f"{number} of {self._args.repeat}: {name} goes")
        await self._kube.delete("pod", name)
        if not await hub.until(
            lambda: self._left(self._life(name, since)), limit + self._args.linger
        ):
            hub.troubles.append(f"{name}: a way still led to it after {limit:g} s")

    def _life(self, name: str, since: float) -> Life:
        found = [life for life in self._hub.lives(since) if life.name == name]
        return found[0] if found else Life(name, "", None, None, (), (), ())

    def _ways(self) -> list[tuple[str, str]]:
        """Give the ways by which the Pod has to be seen to come and go: (source, place)."""
        kinds = [SERVICE, HEADLESS, *([INGRESS] if self._args.ingress else ())]
        ways = [(PATHS[kind], place) for place in self._places for kind in kinds]
        return [way for way in ways if way not in self._broken]

    def _reached(self, life: Life) -> bool:
        return moment(life.coming, "ready") is not None and all(
            moment(life.coming, "reached", *way) is not None for way in self._ways()
        )

    def _left(self, life: Life) -> bool:
        return moment(life.going, "gone") is not None and all(
            moment(life.going, "left", *way) is not None for way in self._ways()
        )

    def _give_up(self, life: Life) -> None:
        """No longer wait for ways that did not lead to the Pod."""
        for source, place in self._ways():
            if moment(life.coming, "reached", source, place) is None:
                self._broken.add((source, place))
                self._hub.troubles.append(
                    f"{source}, asked from {place}: no answer from {life.name}, or with its"
                    f" address, within {self._args.timeout:g} s{self._last_words(source, place)}"
                )

    def _last_words(self, source: str, place: str) -> str:
        heard = [
            it.sample.answer
            for it in self._hub.heard
            if it.place == place and PATHS.get(it.sample.key) == source
        ]
        return f" (the last answer: {heard[-1]})" if heard else ""

    @contextlib.asynccontextmanager
    async def _removed(self) -> AsyncIterator[None]:
        """Remove all that was made, however it ends."""
        try:
            yield
        finally:
            for kind in manifests.KINDS:
                if kind != "ingresses" or self._args.ingress_class:
                    with contextlib.suppress(WatchError):
                        await self._kube.delete(
                            kind, "--selector", self._plan.selector, "--grace-period=1"
                        )

    # -- the user's

    async def watch_others(self) -> Found:
        """Watch Pods that others make come and go."""
        args, hub = self._args, self._hub
        services = [await self._kube.get("service", name) for name in args.service]
        label = "kubernetes.io/service-name"
        selector = f"{label} in ({','.join(args.service)})" if args.service else ""
        async with contextlib.AsyncExitStack() as stack:
            if args.places != [HERE]:
                await stack.enter_async_context(self._removed())
            await stack.enter_async_context(self._watching(args.pods, selector, 1))
            if services:
                self._namespace = services[0]["metadata"]["namespace"]
            hub.ask(self._questions(services, args.port))
            await self._listen()
            hub.ready = True
            for number in range(1, args.repeat + 1):
                passed = self._passed()
                if self._command:
                    say(f"{number} of {args.repeat}: {' '.join(self._command)}")
                    await self._roll()
                else:
                    say(f"{number} of {args.repeat}: watching until a Pod has come and one gone")
                if not await hub.until(passed, args.timeout):
                    hub.troubles.append(f"not all had come and gone after {args.timeout:g} s")
                await asyncio.sleep(_PAUSE)
            return self._found()

    async def _roll(self) -> None:
        process = await disturbance.start(self._command)
        if code := await process.wait():
            self._hub.troubles.append(f"{' '.join(self._command)} ended with {code}")

    def _passed(self) -> Callable[[], bool]:
        """Give a test whether, from now on, a Pod has come, one has gone, and all is calm."""
        hub = self._hub

        def count(name: str) -> int:
            lives = hub.lives()
            return sum(moment((*it.coming, *it.going), name) is not None for it in lives)

        came, went = count("ready"), count("gone")

        def passed() -> bool:
            if any(state.told for state in hub.present) or not self._all_ready():
                return False
            return count("ready") > came and count("gone") > went

        return passed

    # -- both

    @property
    def _host(self) -> str:
        """What requests to our own Ingress ask for."""
        return f"{self._plan.instance}.example"

    @contextlib.asynccontextmanager
    async def _watching(self, pods: str, endpoints: str, expected: int) -> AsyncIterator[None]:
        """Watch the API, and start the observers."""
        hub, namespace = self._hub, self._namespace
        path = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
        hub.watch(
            streams.stream(
                Resource("pods", "/api/v1/namespaces/{}/pods", pods, namespace), self._options
            ),
            streams.stream(
                Resource("endpointslices.discovery.k8s.io", path, endpoints, namespace),
                self._options,
            ),
        )
        try:
            await self._observers()
            await hub.until(lambda: len(hub.slices) >= expected, _FIRST)
            yield
        finally:
            await hub.stop()

    async def _observers(self) -> None:
        nodes = await self._nodes()
        if HERE in self._args.places:
            self._places.append(HERE)
            self._hub.observe_here()
        if not nodes:
            return
        names = {node: f"{self._plan.instance}-asks-{n}" for n, node in enumerate(nodes, 1)}
        await self._kube.create(
            *(manifests.observer(self._plan, name, node) for node, name in names.items())
        )
        await self._running(len(nodes))
        for node, name in names.items():
            await self._hub.observe_from(node, self._kube.attach(name))
            self._places.append(node)
        await self._hub.aligned(_FIRST * 2)

    async def _nodes(self) -> list[str]:
        """Choose the nodes: those named, or the first ones that take any Pod."""
        places = self._args.places
        named = [place for place in places if place not in (HERE, NODES)]
        for node in named:
            await self._must_exist(node)
        if NODES not in places:
            return named
        trees = (await self._kube.get("nodes"))["items"]
        free = [tree["metadata"]["name"] for tree in trees if _takes_pods(tree)]
        if not free:
            raise WatchError("no node is Ready and without a taint: name one with --from NODE")
        if len(free) > MOST:
            self._hub.troubles.append(f"asked from {MOST} of {len(free)} nodes")
        return sorted({*named, *free[:MOST]})

    async def _must_exist(self, node: str) -> None:
        """Raise `WatchError` for a node that is not there: a Pod for it would wait in vain."""
        try:
            await self._kube.get("node", node)
        except WatchError as error:
            if "not found" in str(error):  # without the right to look, try it
                raise

    async def _running(self, count: int) -> None:
        """Wait until the observers run. Raises `WatchError` with what keeps them from it."""
        selector = f"{self._plan.selector},{manifests.PART}=observer"
        end = self._hub.now() + _START
        while True:
            pods = (await self._kube.get("pods", "--selector", selector))["items"]
            waiting = [why for pod in pods if (why := _why_not(pod))]
            if len(pods) == count and not waiting:
                return
            if any("Image" in why for why in waiting) or self._hub.now() > end:
                raise WatchError(
                    f"{waiting[0] if waiting else 'no observer'}; "
                    f"an image with podgrace {__version__}"
                    " is named with --image"
                )
            await asyncio.sleep(_QUIET / 2)

    async def _listen(self) -> None:
        """Wait until the initial state is complete."""
        hub = self._hub
        while True:
            before = len(hub.pods) + len(hub.slices)
            await asyncio.sleep(_QUIET)
            await hub.until(lambda: True, 0)  # raises where a watch has ended
            if len(hub.pods) + len(hub.slices) == before:
                return

    def _all_ready(self) -> bool:
        present = self._hub.present
        return bool(present) and all("Ready" in state.true for state in present)

    def _questions(
        self, services: Sequence[dict[str, Any]], port: int | None
    ) -> dict[str, list[Question]]:
        args = self._args
        ask, every = "http" if self._http else "tcp", args.every
        path = args.path or "/"
        made = []
        for tree in services:
            name, spec = tree["metadata"]["name"], tree["spec"]
            full = f"{name}.{self._namespace}.svc.{args.cluster_domain}."
            address = spec.get("clusterIP") or "None"
            headless = address == "None"
            six = "IPv6" in spec.get("ipFamilies", ["IPv4"])[:1]
            kind = HEADLESS if headless else NAME
            made.append(
                Question(
                    kind, "dns", args.dns, _DNS, every if headless else _SELDOM, host=full, six=six
                )
            )
            if not headless:
                ports = [it["port"] for it in spec.get("ports", ())]
                number = port if port is not None and port in ports else (ports or [80])[0]
                made.append(Question(SERVICE, ask, address, number, every, path))
        if args.ingress:
            made.append(self._ingress(args.ingress))
        return dict.fromkeys(self._places, made)

    def _ingress(self, url: str) -> Question:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return Question(
            INGRESS,
            "http",
            parts.hostname or "",
            parts.port or (443 if tls else 80),
            self._args.every,
            parts.path or "/",
            host=self._host if self._args.ingress_class else parts.hostname or "",
            tls=tls,
        )

    def _found(self) -> Found:
        hub = self._hub
        return Found(hub.lives(), hub.unsure, tuple(hub.troubles), self._namespace)


def _takes_pods(node: dict[str, Any]) -> bool:
    spec = node.get("spec", {})
    taints = [taint for taint in spec.get("taints", ()) if taint["effect"] != "PreferNoSchedule"]
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in node.get("status", {}).get("conditions", ())
    )
    return ready and not taints and not spec.get("unschedulable")


def _why_not(pod: dict[str, Any]) -> str:
    """Say what keeps a Pod from running; nothing if it runs."""
    status = pod.get("status", {})
    if status.get("phase") == "Running":
        return ""
    name = pod["metadata"]["name"]
    for container in status.get("containerStatuses", ()):
        for state in container.get("state", {}).values():
            if reason := state.get("reason", ""):
                return f"{name}: {reason}: {state.get('message', '')}".rstrip(": ")
    told = [c.get("message", "") for c in status.get("conditions", ()) if c["status"] == "False"]
    return f"{name}: {status.get('phase', 'Pending')}: {next(iter(told), '')}".rstrip(": ")
