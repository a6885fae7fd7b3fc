"""A report as JUnit XML, which every CI reads: a test case for each kind of client. Text out."""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from webhook.cli.prove.report import Client, Report
from webhook.cli.prove.text import notes, remedies, verdict

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 can't hold, not even escaped (2.2)."""


def junit(reports: Sequence[Report]) -> str:
    """Write reports, a suite each. A client fails if it lost requests and the run lost too many."""
    root = ET.Element("testsuites")
    root.extend(map(_suite, reports))
    for element in root.iter():
        element.text = element.text and _FORBIDDEN.sub("\ufffd", element.text)
        element.attrib = {name: _FORBIDDEN.sub("\ufffd", text) for name, text in element.items()}
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(report: Report) -> ET.Element:
    failures = sum(report.failed and client.lost > 0 for client in report.clients.values())
    suite = ET.Element(
        "testsuite",
        name=f"podgrace prove {report.title}",
        tests=str(len(report.clients) + 1),
        failures=str(failures),
        errors=str(int(bool(report.unproved))),
        time=f"{report.seconds:.2f}",
        timestamp=report.began,
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in {
        "sent": report.sent,
        "lost": report.lost,
        "retried": report.retried,
        "rolloutSeconds": report.rollout_seconds,
        "lastOldPodSeconds": report.last_old_pod_seconds,
    }.items():
        if value is not None:
            ET.SubElement(properties, "property", name=name, value=str(value))
    for name, client in report.clients.items():
        _case(suite, name, client, report)
    command = ET.SubElement(
        suite,
        "testcase",
        classname="podgrace.prove",
        name="command",
        time=f"{report.command_seconds or 0.0:.2f}",
    )
    if report.unproved:
        ET.SubElement(command, "error", message=report.unproved)
    ET.SubElement(suite, "system-out").text = "\n".join(
        [verdict(report), *notes(report), *remedies(report)]
    )
    return suite


def _case(suite: ET.Element, name: str, client: Client, report: Report) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname="podgrace.prove",
        name=f"{name}: no request is lost",
        time=f"{report.seconds:.2f}",
    )
    if not (report.failed and client.lost):
        return
    how = ", ".join(f"{outcome} {count}" for outcome, count in client.outcomes.items())
    mine = [loss for loss in report.losses if loss.client == name]
    failure = ET.SubElement(
        case, "failure", message=f"{client.lost} of {client.sent} requests lost: {how}"
    )
    failure.text = "\n".join(
        f"{loss.at:.2f} s: {loss.detail}: {loss.kind}: {loss.evidence}" for loss in mine[:100]
    )
