"""Checks a log at rest by log-format.md alone: verify.py LOG [RECEIPT | CHECKPOINT | KEY-TO-TRUST]..."""

import base64, hmac, itertools, json, pathlib, re, sys  # noqa: E401, I001
from hashlib import sha256
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Key

WRONG = ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError, InvalidSignature
HEADER, LINES, NOTE, *LOCKS = "log.json", "ledger/entries.jsonl", "ledger/checkpoint", ".lock", "ledger/.lock"
TEXT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
HEX = bytes.fromhex


def _signs(note, origin, keys, leaves):  # returns how many entries; keys: (entries before it, hex, lost)
    size = int(note.decode().split("\n")[1])
    x = leaves[:size] or [sha256().digest()]
    while len(x) > 1:
        x = [sha256(b"\1" + a + b).digest() if b else a for a, b in itertools.zip_longest(x[::2], x[1::2])]
    key = HEX([key for before, key, _ in keys if before < size or not before][-1])
    lines = [(x, base64.b64decode(y)) for x, y in re.findall("(?m)^(— \\S+ )(\\S+)$", note.decode())]
    mark = sha256(f"{origin}\n\1".encode() + key).digest()[:4]
    [blob] = [blob for name, blob in lines if (name, blob[:4]) == (f"— {origin} ", mark)]
    text = f"{origin}\n{size}\n{base64.b64encode(x[0]).decode()}\n"
    again = [text, *(f"{name}{base64.b64encode(blob).decode()}" for name, blob in lines), ""]
    if size > len(leaves) or note.decode() != "\n".join(again):
        raise ValueError(f"the first {size} entries are not those that were signed")
    Key.from_public_bytes(key).verify(blob[4:], text.encode())
    return size


def _fold(header, raw):  # the ledger: returns origin, keys, leaf hashes, files, and how far erasures are
    origin, keys, leaves = f"rlhf_audit/{header['log_id']}", [(0, header["public_key"], False)], []
    files, gone = {}, {}
    for line in raw.split(b"\n")[: -1 if raw.endswith(b"\n") else None]:
        entry, n, before = json.loads(line), len(leaves), leaves[-1].hex() if leaves else ""
        event, rater, base = entry["event"], entry.get("rater_id", ""), entry.get("path", "") + "/"
        if (TEXT(entry).encode(), entry["seq"], entry["prev"]) != (line, n, before):
            raise ValueError(f"line {n + 1} is not as it was written")
        if event in ("key-rotated", "key-lost"):
            seal, new, lost = HEX(entry.pop("signature")), entry["public_key"], event == "key-lost"
            Key.from_public_bytes(HEX(new if lost else keys[-1][1])).verify(seal, TEXT(entry).encode())
            if lost and _signs(entry["checkpoint"].encode(), origin, keys, leaves) != n:
                raise ValueError(f"line {n + 1} does not follow what the lost key signed last")
            keys.append((n, new, lost))
        elif event in ("created", "terms"):
            sha = entry["log_sha256" if event == "created" else "terms_sha256"]
            files[HEADER if event == "created" else f"terms/{sha}.md"] = "", "sha256", sha
        elif event == "enrolled":
            files[f"keys/{rater}.key"] = rater, "key-file", entry["key_commitment"]
        elif event in ("session", "compacted", "redaction"):
            files = files if event != "compacted" else {x: files[x] for x in files.keys() - entry["replaces"]}
            for file in (x for x in entry["files"] if event != "redaction" or x["path"] in files):
                told = file["path"].split("/")[1].removeprefix("rater_id="), "file", file.get("file_mac")
                files[file["path"]] = ("", "sha256", file["sha256"]) if "sha256" in file else told
        elif event in ("receipt", "training", "report", "policy-removed", "report-removed"):
            files = {path: said for path, said in files.items() if not path.startswith(base)}
            files |= {(base + x).lstrip("/"): ("", "sha256", y) for x, y in entry.get("files", {}).items()}
        gone |= {rater: event} if event in ("erasure-intent", "receipt") else {}
        leaves.append(sha256(b"\0" + line).digest())
    files = {x: said for x, said in files.items() if said[1] == "sha256" or said[0] not in gone}
    return origin, keys, leaves, files, gone


def check(log, *more):  # more: bytes of receipts, of earlier checkpoints, of keys to trust (hex)
    """Return pairs of a place and what is wrong there; none where all is as it was written."""
    raw = {name: (log / name).read_bytes() for name in (HEADER, LINES, NOTE) if (log / name).is_file()}
    wrong, places = [], (HEADER, LINES, NOTE)
    try:
        _, keys, leaves, files, gone = ledger = _fold(json.loads(raw[HEADER]), raw[LINES])
        size, *sizes = [_signs(x, *ledger[:3]) for x in (raw[NOTE], *more) if len(x) != 64 and x[:1] != b"{"]
        wrong += [(x, "one is older than the other") for x in (LINES, NOTE) if size != len(leaves)]
        places = ["receipt"]
        for body, sha in [(json.loads(x), sha256(x).hexdigest()) for x in more if x[:1] == b"{"]:
            mark, rater = body.pop("signature"), body["rater_id"]
            Key.from_public_bytes(HEX(mark["public_key"])).verify(HEX(mark["value"]), TEXT(body).encode())
            left = any((log / x).exists() for x in (f"keys/{rater}.key", f"feedback/rater_id={rater}"))
            is_ours = mark["public_key"] in [x for _, x, _ in keys] and ("", "sha256", sha) in files.values()
            wrong += [("receipt", "another log's, or what it says is gone is there")] * (left or not is_ours)
    except WRONG as error:
        return [*wrong, *((name, f"does not hold: {error!r}") for name in places)]
    alone = [key for n, key, lost in keys if lost and key.encode() not in more and n >= max([*sizes, 0])]
    wrong += [(LINES, f"nobody vouches for the key {key}: name it, if you do") for key in alone]
    wrong += [(LINES, f"an erasure of {x} never ended") for x, event in gone.items() if event != "receipt"]
    for path, (rater, kind, needed) in files.items():
        try:
            key = {} if kind == "sha256" else json.loads((log / f"keys/{rater}.key").read_bytes())
            mac = hmac.new(HEX(key["mac_key"]), f"{kind}\0".encode(), "sha256") if key else sha256()
            mac.update((log / path).read_bytes())
            is_wrong = mac.hexdigest() != needed or (log / path).is_symlink()
        except WRONG:
            is_wrong = not path.startswith("../") or (log / path).parent.is_dir()
        wrong += [(path, "is missing, or not what the ledger names")] * is_wrong
    known = {LINES, NOTE, *files, *(x for x in LOCKS if (log / x).is_file() and not (log / x).stat().st_size)}
    found = {x.relative_to(log).as_posix() for x in log.rglob("*") if x.is_symlink() or not x.is_dir()}
    return [*wrong, *((name, "is not in the ledger") for name in sorted(found - known))]


if __name__ == "__main__":
    given = [x.read_bytes() if x.is_file() else str(x).encode() for x in map(pathlib.Path, sys.argv[2:])]
    sys.exit("\n".join(map(": ".join, check(pathlib.Path(sys.argv[1]), *given))) or print("ok"))
