"""Consent records as JSON-LD: whole without a network, in DPV's terms, and saying what the ledger says."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from session_world import START, SetClock, enrolled, new_log

from rlhf_audit.consent import dpv, people, register, terms
from rlhf_audit.consent.forms import Form
from rlhf_audit.consent.people import Giver
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Purpose

T, A, P = Purpose.TRAINING, Purpose.AUDIT, Purpose.PUBLICATION
# Those of DPV 2 (https://w3id.org/dpv) that may be used; whoever adds one looks it up first.
TERMS = {
    "ConsentRecord", "ConsentNotice", "ConsentGiven", "ConsentRefused", "ConsentWithdrawn", "ConsentExpired",
    "ConsentInvalidated", "ConsentStatusValidForProcessing", "ConsentStatusInvalidForProcessing",
    "DataSubject", "DataController", "GuardianOfDataSubject", "Representative", "ExplicitlyExpressedConsent",
    "Process", "Purpose", "Optional", "UntilTimeDuration", "hasDataSubject", "hasLegalBasis", "hasNotice",
    "hasProcess", "hasPurpose", "hasNecessity", "hasStatus", "hasConsentStatus", "hasIndicationMethod",
    "hasDuration", "isIndicatedBy", "isIndicatedAtTime",
}  # fmt: skip


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Log:
    return new_log(tmp_path / "log", clock)


def names(value: Any) -> Iterator[str]:
    """Yield every name that JSON-LD expands: keys, types and ids."""
    if isinstance(value, list):
        for inner in value:
            yield from names(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("@id", "@type"):
                yield inner
            elif key != "@value":
                if not key.startswith("@"):
                    yield key
                yield from names(inner)


def check(document: dict[str, Any]) -> list[dict[str, Any]]:
    assert json.loads(json.dumps(document)) == document and set(document) == {"@context", "@graph"}
    context = document["@context"]
    assert context.pop("@version") == 1.1
    assert all(iri.startswith(("http://", "https://")) and iri[-1] in "#/" for iri in context.values())
    for name in names(document["@graph"]):
        prefix, colon, rest = name.partition(":")
        # What is no prefix of ours must be a whole IRI.
        assert colon and rest and (prefix in context or prefix in ("urn", "https")), name
        assert prefix != "dpv" or rest in TERMS, name
    records: list[dict[str, Any]] = document["@graph"]
    for record in records:
        assert (
            record["@type"] == "dpv:ConsentRecord"
            and record["dpv:hasDataSubject"]["@type"] == "dpv:DataSubject"
        )
        assert record["dct:conformsTo"]["@id"] == dpv.PROFILE and record["dpv:hasConsentStatus"]
    return records


def said(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (one["@type"], one["dpv:isIndicatedAtTime"]["@value"][:10]) for one in record["dpv:hasConsentStatus"]
    ]


def test_each_state_is_told_in_dpvs_terms(log: Log, clock: SetClock) -> None:
    given, refused, withdrawn, invalid = (enrolled(log, purposes=()) for _ in range(4))
    for who in (given, withdrawn, invalid):
        register.give(log, who, [T, A], "terminal")
    register.refuse(log, refused, [T], "terminal")
    clock.move(days=1)
    register.withdraw(log, withdrawn)
    register.invalidate(log, invalid, "not signed")
    day = {who: check(dpv.document(log, who, clock.now()))[0] for who in (given, refused, withdrawn, invalid)}
    assert said(day[given]) == [("dpv:ConsentGiven", "2026-03-04")]
    assert said(day[refused]) == [("dpv:ConsentRefused", "2026-03-04")]
    assert said(day[withdrawn]) == [
        ("dpv:ConsentGiven", "2026-03-04"),
        ("dpv:ConsentWithdrawn", "2026-03-05"),
    ]
    assert said(day[invalid]) == [
        ("dpv:ConsentGiven", "2026-03-04"),
        ("dpv:ConsentInvalidated", "2026-03-05"),
    ]
    end = START + timedelta(days=register.GRANT_DAYS)
    assert len(said(check(dpv.document(log, given, end - timedelta(microseconds=1)))[0])) == 1
    assert said(check(dpv.document(log, given, end))[0])[-1] == ("dpv:ConsentExpired", "2027-03-04")
    assert {one.value for one in ConsentState} == {"given", "refused", "withdrawn", "invalidated", "expired"}


def test_a_record_names_the_terms_the_purposes_and_until_when(log: Log) -> None:
    person = enrolled(log, purposes=[T, P])
    (record,) = check(dpv.document(log, person, START))
    notice = record["dpv:hasNotice"]
    assert notice["spdx:checksum"]["spdx:checksumValue"]["@value"] == terms.current(log)[0]
    assert [one["dpv:hasPurpose"]["dct:title"] for one in record["dpv:hasProcess"]] == [
        "training",
        "publication",
    ]
    first = record["dpv:hasConsentStatus"][0]
    assert first["dpv:hasDuration"]["rdf:value"]["@value"] == "2027-03-04T09:00:00.000000Z"
    assert first["dpv:isIndicatedBy"]["@id"] == "dpv:DataSubject"
    assert person in record["dpv:hasDataSubject"]["@id"]


def test_a_purpose_that_is_taken_back_is_told_alone(log: Log, clock: SetClock) -> None:
    person = enrolled(log, purposes=[T, A])
    clock.move(days=1)
    register.withdraw(log, person, [T, P])
    (record,) = check(dpv.document(log, person, clock.now()))
    assert record["dpv:hasConsentStatus"][-1]["dpv:hasPurpose"] == [
        {"@id": "urn:rlhf-audit:purpose:training"}
    ]
    assert [
        one["dpv:hasStatus"]["@id"].removeprefix("dpv:ConsentStatus") for one in record["dpv:hasProcess"]
    ] == [
        "InvalidForProcessing",
        "ValidForProcessing",
    ]


def test_a_form_and_a_guardian_are_told(log: Log) -> None:
    people.permit(log, [Giver.GUARDIAN, Giver.PROXY])
    person = enrolled(log, purposes=(), groups={"age": "12"})
    register.give(log, person, [T], "imported", form=Form("ab" * 32, date(2026, 3, 1)), by=Giver.GUARDIAN)
    other = enrolled(log, purposes=())
    register.give(log, other, [T], "terminal", by=Giver.PROXY)
    (first,) = check(dpv.document(log, person, START))
    (second,) = check(dpv.document(log, other, START))
    status = first["dpv:hasConsentStatus"][0]
    assert status["dpv:isIndicatedBy"]["@id"] == "dpv:GuardianOfDataSubject"
    assert status["dct:source"]["spdx:checksum"]["spdx:checksumValue"]["@value"] == "ab" * 32
    assert status["dct:source"]["dct:issued"]["@value"] == "2026-03-01"
    assert second["dpv:hasConsentStatus"][0]["dpv:isIndicatedBy"]["@id"] == "dpv:Representative"


def test_a_rater_who_was_never_asked_has_no_record(log: Log) -> None:
    assert check(dpv.document(log, enrolled(log, purposes=()), START)) == []
