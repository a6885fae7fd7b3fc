"""Which Pods slipped through: opted in, but without our mark, or with another version's.

In: a Pod, its namespace's label, and the version to compare with. Out: a code of `reasons.REASONS`,
or "". This finds Pods that `failurePolicy: Ignore` let pass while the webhook was down, and Pods
older than the installation. Reading them from a cluster or a file belongs to the command line.

| pod label | namespace label | opted in                                           |
|-----------|-----------------|----------------------------------------------------|
| disabled  | any             | no                                                 |
| any       | disabled        | no                                                 |
| enabled   | any other       | yes                                                |
| any other | enabled         | yes                                                |
| any other | any other       | no                                                 |
"""

from webhook.core.alone import left_alone
from webhook.core.names import DISABLED, ENABLED, STATUS_ANNOTATION
from webhook.core.pod import EMPTY, Pod
from webhook.core.status import read


def opted_in(pod_label: str | None, namespace_label: str | None) -> bool:
    """Whether our chart's webhook configuration selects such a Pod."""
    if DISABLED in (pod_label, namespace_label):
        return False
    return ENABLED in (pod_label, namespace_label)


def finding(
    pod: Pod,
    pod_label: str | None,
    namespace_label: str | None,
    excluded: frozenset[str],
    version: str,
) -> tuple[str, str]:
    """Give the code and its detail; ("", "") for a Pod that is as it should be."""
    if not opted_in(pod_label, namespace_label) or left_alone(pod, excluded):
        return "", ""
    if STATUS_ANNOTATION not in ((pod.metadata or EMPTY).annotations or {}):
        return "slipped-through", ""
    status = read(pod)
    if status is None or not status.version:
        return "mark-unreadable", ""
    return (
        ("", "")
        if status.version == version
        else ("other-version", f"{status.version}, not {version}")
    )
