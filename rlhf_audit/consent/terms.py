"""The consent texts, kept exactly as shown and named by their digest."""

from rlhf_audit.canonical import sha256_hex
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log.store import Log

DEFAULT_TERMS = """\
# What you agree to

You watch a computer program act, step by step, and say whether each action
was right.

- What is kept: your answers, when you gave them and how long you took, under
  a random name such as r-1a2b3c4d. One file alone, which stays on this
  computer, links that name to you.
- Training: your answers teach the program.
- Audit: your answers are compared with those of others, to find mistakes.
- Publication: your answers, under the random name, may be given to others.
  A copy once handed out can't be called back; we will ask for its deletion.
- You may agree to each purpose on its own. A no has no disadvantage for you.
- You may stop at any moment, without a reason, for one purpose or for all.
  From then on nothing of yours is used. Within one month all that you gave is
  deleted, and what learnt from it is trained again without it. You get a
  receipt.
- Your consent ends by itself on the day shown below.
"""


def add(log: Log, text: str = DEFAULT_TERMS) -> str:
    """Store a version of the terms and return its digest; the newest text again is no new version.

    Raises:
        UsageError: The text is empty.
    """
    if not text.strip():
        raise UsageError(
            "the terms are empty",
            seen=f"{len(text)} characters, none to be read",
            needed="the text that raters are to read",
            fix="rlhf-audit init LOG --terms FILE",
        )
    raw = text.encode()
    digest = sha256_hex(raw)
    with log.writing():
        known = [entry.body["terms_sha256"] for entry in log.ledger.of("terms")]
        # Going back to an earlier text is a new version too.
        if digest != newest(log):
            facts = {"terms_sha256": digest, "version": len(known) + 1}
            log.place(log.layout.terms, {log.layout.terms_file(digest).name: raw}, "terms", facts)
    return digest


def newest(log: Log) -> str | None:
    """Return the digest of the newest terms; None where there are none."""
    return next((entry.body["terms_sha256"] for entry in reversed(list(log.ledger.of("terms")))), None)


def current(log: Log) -> tuple[str, int, str]:
    """Return digest, version and text of the newest terms.

    Raises:
        LogError: There are none, or the file is missing or altered: nobody may be asked to agree to it.
    """
    entry = next(reversed(list(log.ledger.of("terms"))), None)
    if entry is None:
        raise LogError(
            "this log has no terms to agree to",
            seen="no terms in the ledger",
            needed="the text that raters are to read",
            fix="rlhf-audit terms LOG FILE",
        )
    digest = entry.body["terms_sha256"]
    return digest, entry.body["version"], text(log, digest)


def text(log: Log, digest: str) -> str:
    """Return a version of the terms.

    Raises:
        LogError: The file is missing or altered: nobody may be shown it.
    """
    path = log.layout.terms_file(digest)
    raw = path.read_bytes() if path.is_file() else b""
    if sha256_hex(raw) != digest:
        raise LogError(
            f"{log.layout.relative(path)} is not the text that the ledger names",
            seen="another text" if path.is_file() else "no such file",
            needed="the terms as they were added",
            fix="rlhf-audit verify LOG",
        )
    return raw.decode()
