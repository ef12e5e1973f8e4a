"""A rater's consents as JSON-LD in the terms of W3C DPV 2, by the fields of ISO/IEC TS 27560:2023.

Nothing is fetched to read it: the context stands in the document, and every name in it is a full IRI or made
of a prefix that the context spells out.

References:
    Pandit, Lindquist and Krog, "Implementing ISO/IEC TS 27560:2023 Consent Records and Receipts for GDPR and
    DGA" (2024), and the guide of the DPV community group, https://w3id.org/dpv/guides/consent-27560.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rlhf_audit.clock import to_text
from rlhf_audit.consent.people import Giver
from rlhf_audit.consent.standings import Standing, standings
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Purpose

PROFILE = "https://w3id.org/dpv/schema/dpv-27560#record"
_CONTEXT: Mapping[str, Any] = {
    "@version": 1.1,
    "dpv": "https://w3id.org/dpv#",
    "dct": "http://purl.org/dc/terms/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "spdx": "http://spdx.org/rdf/terms#",
}
_STATUS = {
    ConsentState.GIVEN: "dpv:ConsentGiven",
    ConsentState.REFUSED: "dpv:ConsentRefused",
    ConsentState.WITHDRAWN: "dpv:ConsentWithdrawn",
    ConsentState.EXPIRED: "dpv:ConsentExpired",
    ConsentState.INVALIDATED: "dpv:ConsentInvalidated",
}
_GIVERS = {
    Giver.RATER: "dpv:DataSubject",
    Giver.GUARDIAN: "dpv:GuardianOfDataSubject",
    Giver.PROXY: "dpv:Representative",
}
_PURPOSES = {
    Purpose.TRAINING: "Feedback teaches a computer program.",
    Purpose.AUDIT: "Feedback is compared with that of others, and reported on.",
    Purpose.PUBLICATION: "Feedback is given to others.",
}
_METHODS = {
    "terminal": "answered yes or no at a terminal, one purpose at a time, under the terms",
    "web": "answered yes or no in a browser, one purpose at a time, under the terms",
    "imported": "agreed elsewhere, on paper or as the reference says",
    "scripted": "a scripted rater: no person agreed",
}


def document(log: Log, rater_id: str, as_of: datetime) -> dict[str, Any]:
    """Return every consent record of a rater as one JSON-LD 1.1 document.

    Args:
        log: Which.
        rater_id: Whose records.
        as_of: States are judged at this moment.
    """
    own = {e.body["grant_id"]: e for e in log.ledger.of("consent") if e.body["rater_id"] == rater_id}
    records = [_record(log, own[one.grant_id], one, as_of) for one in standings(log, as_of, rater_id)]
    return {"@context": dict(_CONTEXT), "@graph": records}


def _record(log: Log, entry: Entry, standing: Standing, as_of: datetime) -> dict[str, Any]:
    body = entry.body
    base = f"urn:rlhf-audit:{log.log_id}"
    notice = {
        "@id": f"{base}:terms:{body['terms_sha256']}",
        "@type": "dpv:ConsentNotice",
        "dct:hasVersion": str(body["terms_version"]),
        "spdx:checksum": _checksum(body["terms_sha256"]),
    }
    return {
        "@id": f"{base}:{standing.grant_id}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": standing.grant_id,
        "dct:conformsTo": {"@id": PROFILE},
        "dct:created": _time(entry.at),
        "dct:isPartOf": {"@id": base},
        "dpv:hasDataSubject": {"@id": f"{base}:{standing.rater_id}", "@type": "dpv:DataSubject"},
        "dpv:hasLegalBasis": {"@id": "dpv:ExplicitlyExpressedConsent"},
        "dpv:hasNotice": notice,
        "dpv:hasProcess": [_process(one, standing) for one in Purpose if one.value in body["purposes"]],
        "dpv:hasConsentStatus": list(_statuses(log, entry, standing, as_of)),
    }


def _process(purpose: Purpose, standing: Standing) -> dict[str, Any]:
    """Return one purpose, with whether it stands: each can be taken back on its own."""
    usable = standing.state is ConsentState.GIVEN and purpose in standing.purposes
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@id": f"urn:rlhf-audit:purpose:{purpose}",
            "@type": "dpv:Purpose",
            "dct:title": purpose.value,
            "dct:description": _PURPOSES[purpose],
        },
        "dpv:hasNecessity": {"@id": "dpv:Optional"},
        "dpv:hasStatus": {
            "@id": "dpv:ConsentStatusValidForProcessing"
            if usable
            else "dpv:ConsentStatusInvalidForProcessing"
        },
    }


def _statuses(log: Log, entry: Entry, standing: Standing, as_of: datetime) -> Iterator[dict[str, Any]]:
    """Yield what happened to a consent, oldest first; the last is how it stands."""
    body = entry.body
    refused = body["state"] == ConsentState.REFUSED
    first = _status(ConsentState.REFUSED if refused else ConsentState.GIVEN, body["given_at"])
    by = Giver(body["given_by"])
    first |= {"dpv:isIndicatedBy": {"@id": _GIVERS[by]}, "dpv:hasIndicationMethod": _METHODS[body["method"]]}
    if not refused:
        until = {"@type": "dpv:UntilTimeDuration", "rdf:value": _time(body["expires_at"])}
        first["dpv:hasDuration"] = until
    if "scan_sha256" in body:
        signed = {"@type": "xsd:date", "@value": body["signed_on"]}
        first["dct:source"] = {"dct:issued": signed, "spdx:checksum": _checksum(body["scan_sha256"])}
    if "reference" in body:
        first["dct:source"] = {"dct:description": body["reference"]}
    yield first
    for later in log.ledger.of("withdrawal", "consent-invalidated") if not refused else ():
        if later.seq < entry.seq or later.body["rater_id"] != standing.rater_id:
            continue
        if later.event == "withdrawal":
            taken = [one for one in body["purposes"] if one in later.body["purposes"]]
            if taken:
                yield _status(ConsentState.WITHDRAWN, later.at) | {
                    "dpv:isIndicatedBy": {"@id": "dpv:DataSubject"},
                    "dpv:hasPurpose": [{"@id": f"urn:rlhf-audit:purpose:{one}"} for one in taken],
                }
        elif standing.grant_id in later.body["grant_ids"]:
            yield _status(ConsentState.INVALIDATED, later.at) | {
                "dpv:isIndicatedBy": {"@id": "dpv:DataController"},
                "dct:description": later.body["reason"],
            }
    if standing.state is ConsentState.EXPIRED or (standing.expires_at <= as_of and not refused):
        yield _status(ConsentState.EXPIRED, to_text(standing.expires_at))


def _status(state: ConsentState, at: str) -> dict[str, Any]:
    return {"@type": _STATUS[state], "dpv:isIndicatedAtTime": _time(at)}


def _time(text: str) -> dict[str, str]:
    return {"@type": "xsd:dateTime", "@value": text}


def _checksum(sha256: str) -> dict[str, Any]:
    return {
        "@type": "spdx:Checksum",
        "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
        "spdx:checksumValue": {"@type": "xsd:hexBinary", "@value": sha256},
    }
