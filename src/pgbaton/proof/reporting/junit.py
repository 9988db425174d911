"""A run as JUnit XML, which CI systems read: a suite for each fault, a case for each trial. Pure.

Kept to what the schemas in use have in common: no attributes on the root, properties of suites alone, one conclusion a
case, empty outputs at the end.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pgbaton.proof.reporting.words import again, seconds, shortcomings
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.proof.results import FaultSummary, NotRun, RunResult, TrialResult

PACKAGE = "pgbaton.prove"
#: What XML 1.0 cannot carry, even escaped.
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: RunResult) -> str:
    """Return the document; a run that did not come to its end has a suite that says so."""
    root = ET.Element("testsuites")
    for summary in run.summary:
        root.append(suite_of(run, summary))
    for fault in run.not_run:
        root.append(suite_of_skipped(run, fault))
    if not run.complete:
        root.append(suite_of_interrupted(run))
    for number, suite in enumerate(root):
        suite.set("id", str(number))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def suite_of(run: RunResult, summary: FaultSummary) -> ET.Element:
    """Return a fault's suite."""
    cases = [case_of(run, trial) for trial in summary.trials]
    facts = {
        "fault": summary.fault,
        "title": summary.title,
        "median_seconds": f"{summary.median_seconds:.4f}",
        "max_seconds": f"{summary.max_seconds:.4f}",
        "verdict": str(summary.verdict),
    }
    for number, trial in enumerate(summary.trials, 1):
        facts[f"seed.{number}"] = str(trial.seed)
    taken = sum(trial.total_seconds for trial in summary.trials)
    return suite(run, summary.fault, cases, facts, began_at=summary.trials[0].began_at, taken=taken)


def case_of(run: RunResult, trial: TrialResult) -> ET.Element:
    """Return a trial's case."""
    case = element("testcase", name=f"seed {trial.seed}", classname=classname(trial.fault), time=time(trial))
    findings = shortcomings(trial)
    match trial.verdict:
        case Verdict.VIOLATED | Verdict.MISSED:
            case.append(conclusion("failure", findings, trial, again(run, trial.fault, trial.seed)))
        case Verdict.UNKNOWN:
            case.append(conclusion("error", findings, trial, again(run, trial.fault, trial.seed)))
        case Verdict.PROVEN:
            pass
    return case


def conclusion(tag: str, findings: tuple[str, ...], trial: TrialResult, repeat: str) -> ET.Element:
    """Return why a case did not pass, with how to see it again."""
    kind = str(trial.verdict)
    told = element(tag, type=kind, message=findings[0] if findings else kind)
    outage = f"no write acknowledged for: {seconds(trial.write_outage_seconds)}"
    folder = (f"folder: {trial.folder}",) if trial.folder else ()
    told.text = clean("\n".join((*findings, f"struck: {', '.join(trial.hosts)}", outage, f"again: {repeat}", *folder)))
    return told


def suite_of_skipped(run: RunResult, fault: NotRun) -> ET.Element:
    """Return the suite of a fault that was not made."""
    case = element("testcase", name="not run", classname=classname(fault.fault), time="0")
    skipped = ET.SubElement(case, "skipped")
    skipped.set("message", clean(fault.reason))
    facts = {"fault": fault.fault, "title": fault.title, "reason": fault.reason}
    return suite(run, fault.fault, [case], facts, began_at=run.began_at, taken=0.0)


def suite_of_interrupted(run: RunResult) -> ET.Element:
    """Return the suite that keeps half a run from being taken for a whole one."""
    case = element("testcase", name="every trial was made", classname=classname("run"), time="0")
    message = f"the run did not come to its end; it had made {len(run.trials)} trials"
    case.append(element("error", type="interrupted", message=message))
    return suite(run, "run", [case], {"asked": run.asked}, began_at=run.began_at, taken=0.0)


def suite(
    run: RunResult, name: str, cases: Iterable[ET.Element], facts: Mapping[str, str], *, began_at: str, taken: float
) -> ET.Element:
    """Return a suite of cases, counted."""
    made = list(cases)
    counts = {plural: sum(case.find(tag) is not None for case in made) for plural, tag in COUNTED}
    whole = element(
        "testsuite",
        name=name,
        package=PACKAGE,
        hostname=run.cluster or "localhost",
        timestamp=timestamp(began_at),
        time=f"{taken:.3f}",
        tests=str(len(made)),
        **{plural: str(number) for plural, number in counts.items()},
    )
    properties = ET.SubElement(whole, "properties")
    for key, value in {"run.seed": str(run.seed), "system": run.system, **facts}.items():
        properties.append(element("property", name=key, value=value))
    whole.extend(made)
    ET.SubElement(whole, "system-out")
    ET.SubElement(whole, "system-err")
    return whole


#: Attributes of a suite that count its cases with a child of some name.
COUNTED = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def element(tag: str, **attributes: str) -> ET.Element:
    """Return an element whose attributes XML can carry."""
    return ET.Element(tag, {key: clean(value) for key, value in attributes.items()})


def clean(value: str) -> str:
    """Return a text without characters that XML has no way to write."""
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)


def classname(fault: str) -> str:
    """Return a fault as the class that its trials are of."""
    return f"{PACKAGE}.{fault}"


def time(trial: TrialResult) -> str:
    """Return how long a trial took altogether, in seconds."""
    return f"{trial.total_seconds:.3f}"


def timestamp(began_at: str) -> str:
    """Return a moment in UTC, without a zone: the schema allows none."""
    moment = datetime.fromisoformat(began_at)
    return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%S")
