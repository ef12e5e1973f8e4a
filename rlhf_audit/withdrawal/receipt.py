"""The receipt of an erasure: signed JSON for machines, and a page for the rater."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rlhf_audit import canonical
from rlhf_audit.log import durable
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log
from rlhf_audit.withdrawal import plan
from rlhf_audit.withdrawal.holdings import Kind, State
from rlhf_audit.withdrawal.residue import Scan

SCHEMA = "rlhf_audit.receipt/1"


def write(log: Log, intent: Entry, done: Entry, scan: Scan) -> Path:
    """Write and sign a receipt, make its page, and enter both in the ledger; return the JSON's path."""
    number = sum(1 for _ in log.ledger.of("receipt")) + 1
    receipt_id = f"receipt-{number:04d}"
    body = _content(log, receipt_id, intent, done, scan)
    signature = log.signing_key.sign(canonical.json_bytes(body))
    body["signature"] = {
        "algorithm": "Ed25519",
        "public_key": log.public_key.hex(),
        "value": signature.hex(),
    }
    from rlhf_audit.reports import html  # here, so that opening a log never waits for the page's libraries

    path = log.layout.receipts / f"{receipt_id}.json"
    files = {
        path: canonical.json_bytes(body) + b"\n",
        path.with_suffix(".html"): html.render_receipt(body).encode(),
    }
    for target, data in files.items():
        durable.write(target, data)
    digests = {log.layout.relative(target): canonical.sha256_hex(data) for target, data in files.items()}
    log.append("receipt", {"rater_id": intent.body["rater_id"], "files": digests})
    return path


def signature_holds(path: Path, public_key: bytes) -> bool:
    """Say whether a receipt is signed by ``public_key`` (32 bytes)."""
    try:
        body = json.loads(path.read_bytes())
        signature = bytes.fromhex(body.pop("signature")["value"])
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, canonical.json_bytes(body))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
        return False
    return True


def _content(log: Log, receipt_id: str, intent: Entry, done: Entry, scan: Scan) -> dict[str, Any]:
    withdrawn = [e for e in log.ledger.of("withdrawal") if e.body["rater_id"] == intent.body["rater_id"]]
    left = plan.left(done.body)
    # What was found to be there and was not destroyed.
    complete = all(note["state"] == State.MISSING for note in left)
    rows = [note for note in left if note["kind"] == Kind.ROWS]
    gone = [path for path in done.body["files"] if path not in {note["path"] for note in left}]
    return {
        "schema": SCHEMA,
        "receipt_id": receipt_id,
        "log_id": log.log_id,
        "rater_id": intent.body["rater_id"],
        "requested_at": withdrawn[-1].at if withdrawn else intent.at,
        "completed_at": done.at if complete else None,
        "deleted": {
            "rows": done.body["rows"] - sum(note["rows"] for note in rows),
            "files": len(gone),
            "key": not any(note["kind"] == Kind.KEY for note in left),
            "policies": [
                {name: policy[name] for name in ("name", "before", "after", "outcome")}
                for policy in done.body["policies"]
            ],
            "reports": done.body["reports"],
            "journals": sum(name.startswith("journal/") for name in done.body["files"]),
        },
        "stays": _stays(done, scan),
        "exports": done.body["exports"],
        "residue_scan": {
            "files": scan.files,
            "bytes": scan.bytes,
            "structures": scan.structures,
            "found": len(scan.found),
            "places": list(scan.found),
            "unread": list(scan.unread),
            "alias_and_key_searched": scan.looked_for_secrets,
        },
        "log_head": log.ledger.head_at(done.seq + 1).to_json(),
    }


def _stays(done: Entry, scan: Scan) -> list[dict[str, str]]:
    stays = [
        {
            "what": "in our list of events: your random name, when you agreed and withdrew, and how many"
            " answers there were.",
            "why": "It proves that you were asked and that all was deleted. It holds no answer of yours.",
        },
        {
            "what": "what the computer program did while you were watching it.",
            "why": "These steps are the program's. They say nothing of you.",
        },
        {
            "what": "copies on backups and other disks that this program can't reach.",
            "why": "Whoever keeps them must delete them. The key to your answers is to be in no backup.",
        },
    ]
    if done.body["redacted"]:
        stays.append(
            {
                "what": "the actions of a program that learnt from you while it acted, in "
                + ", ".join(done.body["redacted"])
                + ".",
                "why": "The numbers from which your answers could be worked out are deleted from it.",
            }
        )
    for policy in done.body["policies"]:
        if policy["outcome"] == "not found":
            stays.append(
                {
                    "what": f"the policy {policy['name']}, if there is a copy of it elsewhere.",
                    "why": "It was not in its place. Whoever holds it must train it again or delete it.",
                }
            )
    stays += [told for told in map(_apart, done.body.get("places", ())) if told is not None]
    for name in scan.unread:
        stays.append(
            {
                "what": f"what is in {name}, if it is about you.",
                "why": "The search could not read it. A person must look.",
            }
        )
    for name in scan.found:
        stays.append(
            {
                "what": f"something like your data in {name}.",
                "why": "The search found it. A person must look.",
            }
        )
    return stays


def _apart(note: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what a rater is told of a file that was not simply a file in its place."""
    name, led = note["path"], note["leads_to"]
    where = f"what is in {led}, where {name} led to" if led else f"what was in {name}"
    if note["state"] == State.MISSING:
        return {
            "what": f"{where}, if there is a copy of it elsewhere.",
            "why": "It was not in its place. Whoever holds it must delete it.",
        }
    if note["state"] == State.OTHER:
        there = "under its other names" if not led and note["names"] > 1 else "there"
        return {
            "what": f"{where}: it is still {there}.",
            "why": "It is not what we had written down, so it may be somebody else's and we left it alone. "
            "If it is yours, whoever keeps it must delete it.",
        }
    if note["names"] > 1:
        return {
            "what": f"other names of {led or name}.",
            "why": "They named the same file. What it held is deleted under all of them; the names stay.",
        }
    return None
