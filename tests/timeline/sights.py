"""Made-up sights of Pods: one comes and goes beside one that stays, asked from two nodes."""

from collections.abc import Iterator

from webhook.cli.timeline.sight import (
    CHECKED,
    DIRECT,
    HEADLESS,
    NAME,
    SERVICE,
    STOPPING,
    Container,
    Heard,
    PodState,
    Sample,
)
from webhook.cli.watching.slices import Endpoint, SliceSeen

EVERY = 0.05
ALL = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")


def pod(
    at: float, name: str = "comes", *true: str, state: str = "waiting", **more: object
) -> PodState:
    ready = "ContainersReady" in true
    made = PodState(
        at,
        name,
        f"uid-{name}",
        "node-1",
        f"10.0.0.{len(name)}",
        8080,
        "Running" if state == "running" else "Pending",
        frozenset(true),
        (Container("server", state, ready),),
    )
    return made._replace(**more)  # type: ignore[arg-type]


def pods(begin: float, told: float, linger: float = 3.0) -> list[PodState]:
    """Make the stages of one life: Ready 2 s after its creation."""
    up = {"state": "running"}
    return [
        pod(0.0, "stays", *ALL, **up),
        pod(begin, address="", containers=()),
        pod(begin + 0.1, "comes", *ALL[:1], address="", containers=()),
        pod(begin + 0.6, "comes", *ALL[:3]),
        pod(begin + 0.8, "comes", *ALL[:3], **up),
        pod(begin + 2.0, "comes", *ALL, **up),
        pod(told, "comes", *ALL, told=True, **up),
        pod(told + linger + 0.5, "comes", *ALL[:3], told=True, state="terminated"),
        pod(
            told + linger + 0.9,
            "comes",
            *ALL[:3],
            told=True,
            gone=True,
            address="",
            state="terminated",
        ),
    ]


def slices(begin: float, told: float, linger: float = 3.0) -> list[SliceSeen]:
    """Make what the slices of two Services tell of it."""
    stays = Endpoint("stays", ready=True, serving=True, terminating=False)

    def both(at: float, *more: Endpoint) -> Iterator[SliceSeen]:
        for service in ("shop", "shop-headless"):
            yield SliceSeen(at, f"{service}-1", service, (stays, *more))

    states = [
        (begin + 0.7, Endpoint("comes", ready=False, serving=False, terminating=False)),
        (begin + 2.1, Endpoint("comes", ready=True, serving=True, terminating=False)),
        (told + 0.1, Endpoint("comes", ready=False, serving=True, terminating=True)),
        (told + linger + 0.6, Endpoint("comes", ready=False, serving=False, terminating=True)),
    ]
    found = list(both(0.0))
    for at, endpoint in states:
        found += both(at, endpoint)
    found += both(told + linger + 0.9)
    return found


def heard(
    begin: float, told: float, linger: float = 3.0, *, late: float = 0.5, ttl: int = 5
) -> list[Heard]:
    """Make what clients met on two nodes: ways follow the slices `late`."""
    found = []
    end = told + linger + 6
    for place in ("node-1", "node-2"):
        for number in range(int(end / EVERY)):
            at = number * EVERY
            there = begin + 2.1 + late <= at <= told + 0.1 + late
            who = "comes" if there and number % 2 else "stays"
            found.append(Heard(place, Sample(SERVICE, at, 0.002, "200", (who,))))

            names = ("10.0.0.5",) if there else ("10.0.0.9",)
            found.append(Heard(place, Sample(HEADLESS, at, 0.001, "NOERROR", names, ttl=ttl)))
            if number % 20 == 0:
                found.append(Heard(place, Sample(NAME, at, 0.001, "NOERROR", ("10.9.0.1",), ttl=5)))
            if begin + 0.6 <= at:
                found.append(Heard(place, _direct(at, begin, told, linger)))
    return found


def _direct(at: float, begin: float, told: float, linger: float) -> Sample:
    key = f"{DIRECT}/comes"
    if at < begin + 1.8:
        return Sample(key, at, 0.001, "refused")
    if at > told + linger + 0.3:
        return Sample(key, at, 0.001, "refused")
    said = (CHECKED,) if at > begin + 1.9 else ()
    said += (STOPPING,) if at > told + 0.3 else ()
    return Sample(key, at, 0.001, "200", ("comes",), said)
