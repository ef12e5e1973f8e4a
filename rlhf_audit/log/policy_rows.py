"""How many training rows of each policy came from whom, as the policies' own manifests tell."""

import contextlib

from rlhf_audit import canonical
from rlhf_audit.log import artefacts
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log

_MANIFEST = "manifest.json"


def read(log: Log) -> list[tuple[str, str, int]]:
    """Return path, rater and number of rows; nothing of a policy whose manifest is gone or was altered."""
    found = []
    for policy in artefacts.current(log, ArtefactKind.POLICY):
        path = policy.folder / _MANIFEST
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if artefacts.wrong_file(path, policy.facts["files"][_MANIFEST]) is None:
                raters = canonical.parse_object(canonical.read_file(path))["raters"]
                found += [(policy.path, str(one["rater_id"]), int(one["rows"])) for one in raters]
    return found
