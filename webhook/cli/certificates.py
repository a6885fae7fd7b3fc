"""`podgrace certs`, from `certs.cli`, with every command's way to a cluster.

In: calls of the API as `certs` makes them. Out: its answers. The package itself knows nothing of
kubectl: beside the webhook, in a Pod, it calls the API by itself.
"""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from certs.cli import add_parser as add_certs_parser
from certs.errors import ApiError
from certs.kubernetes import Answer, Ask
from webhook.cli import cluster

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class Reach:
    """The way that `cluster` chooses."""

    def add_options(self, made: argparse.ArgumentParser) -> None:
        """Add the options that choose a cluster."""
        cluster.add_options(made, namespace=False)

    def ask(self, args: argparse.Namespace) -> Ask:
        """Choose the way. Raises ApiError."""
        try:
            return _asked(cluster.of(args))
        except cluster.ClusterError as error:
            raise ApiError(str(error)) from error


def _asked(reach: cluster.Cluster) -> Ask:
    skew: list[timedelta] = []

    def ask(method: str, target: str, body: "dict[str, Any] | None") -> Answer:
        reply = reach.ask(method, target, body)
        if reply.status == 0:
            raise ApiError(str(cluster.failed(method, reply)))
        if not skew:
            skew.append(_skew(reach))
        there = datetime.now(UTC) + skew[0]
        answer = msgspec.json.decode(reply.body) if reply.body else {"message": reply.told}
        return Answer(reply.status, answer, reply.warnings, there)

    return ask


def _skew(reach: cluster.Cluster) -> timedelta:
    """Find how far the API server's clock is ahead of ours; 0 if it does not say.

    kubectl does not show the Date header, but a created object bears its time: here a
    SelfSubjectReview, which everybody may create and nothing stores.
    """
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        made = reach.create(_REVIEWS, body)
        there = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
    except (cluster.ClusterError, KeyError, TypeError, ValueError):
        return timedelta()
    return there - datetime.now(UTC)


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    add_certs_parser(commands, Reach())
