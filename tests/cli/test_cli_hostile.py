"""Names that attack: as aliases, groups and terms they are kept exactly, shown harmlessly, erased wholly."""

import json
import shutil
import unicodedata
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Cli, run

from rlhf_audit.log import keys
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import residue

CANARY = "Zebedee"
HOSTILE = {
    "path": f"../../../{CANARY}/../etc/passwd",
    "absolute": f"/tmp/{CANARY}.key",
    "windows": f"..\\..\\{CANARY}\\con.txt:stream",
    "nul": f"{CANARY}\0.key",
    "long": f"{CANARY}{'x' * 293}",
    "long of bytes": f"{CANARY}{'é' * 200}",
    "composed": unicodedata.normalize("NFC", f"{CANARY} Zoë"),
    "decomposed": unicodedata.normalize("NFD", f"{CANARY} Zoë"),
    "upper": f"{CANARY} ZOË".upper().replace(CANARY.upper(), CANARY),
    "right to left": f"\u202e{CANARY}\u202c \u05d0\u05d1 \u2066x\u2069",
    "ansi": f"\x1b[2J\x1b[31m{CANARY}\x1b]0;title\x07\x9b1m",
    "cursor": f"{CANARY}\r\x08\x08\x7f over",
    "html": f"<script>alert('{CANARY}')</script><img src=x onerror=alert(1)>&amp;\"",
    "formula": f'=HYPERLINK("http://x/?{CANARY}","@SUM(1+1)*cmd|\' /C calc\'!A0")',
    "plus": f"+{CANARY}",
    "sql": f"'; DROP TABLE raters; -- \" {CANARY} $$ ${{x}} %s",
    "template": f"{{{{ {CANARY} }}}}{{% for x in y %}} {{0}} %(a)s",
    "newlines": f"{CANARY}\nr-00000000\n\r\n\u2028\u2029\x0b\x0c\x85",
    "emoji": f"{CANARY} 👩‍👩‍👧‍👦🏳️‍🌈\U0001f1e6",
    "zero width": f"{CANARY}\u200b\u200d\ufeff\u00ad",
    "combining": CANARY + "\u0301" * 60,
    "shell": f"$({CANARY}) `{CANARY}` && rm -rf ~ | cat",
    "option": f"--purpose={CANARY}",
    "json": f'{{"rater_id": "r-00000000"}} {CANARY} \\u0000 \\"',
    "pseudonym": f"r-12345678 {CANARY}",
}


@dataclass(frozen=True)
class Panel:
    log: Path
    raters: dict[str, str]


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """A log of as many raters as there are hostile names; one of them has rated."""
    log = tmp_path_factory.mktemp("hostile") / "study"
    assert run("init", log).code == 0
    raters = {}
    for kind, text in HOSTILE.items():
        group = text.replace("=", "≡")
        reply = run(
            "enroll", log, f"--alias={text}", f"--group={group}={text}", "--scripted", "oracle", "--json"
        )
        assert (reply.code, CANARY in reply.out + reply.err) == (0, False), kind
        raters[kind] = reply.result["rater_id"]
        purposes = ("--purpose", "training", "--purpose", "audit", "--purpose", "publication")
        assert run("consent", log, raters[kind], *purposes, "--yes").code == 0
    options = ("--source", "scripted:oracle", "--max-feedback", 12)
    first = raters["html"]
    assert run("record", log, "--env", "CartPole-v1", "--rater", first, *options).code == 0
    for kind in ("sql", "formula", "ansi"):
        assert run("record", log, "--rate", "s-0001", "--rater", raters[kind], *options).code == 0
    return Panel(log, raters)


def harmless(text: str) -> bool:
    return all(char == "\n" or char.isprintable() for char in text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_kept_exactly_and_in_the_key_file_alone(panel: Panel, kind: str) -> None:
    log = Log(panel.log)
    key = keys.read(log.layout, panel.raters[kind])
    assert key.alias == HOSTILE[kind]
    assert key.groups == {HOSTILE[kind].replace("=", "≡").strip(): HOSTILE[kind].strip()}
    held = residue.holds(log.layout.key_file(panel.raters[kind]).read_bytes(), [key.alias.encode()])
    assert held, "a search that finds nothing here would prove nothing elsewhere"
    for path in panel.log.rglob("*"):
        assert CANARY not in path.name
        if path.is_file() and path.parent != log.layout.keys:
            assert not residue.holds(path.read_bytes(), [CANARY.encode(), key.alias.encode()])


def test_the_list_of_raters_shows_each_harmlessly_and_apart(panel: Panel) -> None:
    shown = run("show", panel.log, "raters")
    assert shown.code == 0 and harmless(shown.out) and len(shown.out.splitlines()) == len(HOSTILE) + 2
    assert shown.out.count(CANARY) >= len(HOSTILE)
    rows = {row["rater_id"]: row for row in run("show", panel.log, "raters", "--json").result["rows"]}
    assert {kind: rows[rater]["alias"] for kind, rater in panel.raters.items()} == HOSTILE
    assert len({row["alias"] for row in rows.values()}) == len(HOSTILE), "twins stay two"
    for kind in ("ansi", "newlines", "sql"):
        own = run("show", panel.log, "raters", "--rater", panel.raters[kind])
        assert own.code == 0 and harmless(own.out), kind


@pytest.mark.parametrize(
    "verb",
    [
        ("show", "LOG", "sessions"),
        ("show", "LOG", "consent"),
        ("show", "LOG", "ledger"),
        ("show", "LOG", "feedback"),
        ("show", "LOG", "withdrawals"),
        ("audit", "LOG"),
        ("verify", "LOG"),
        ("replay", "LOG"),
        ("sql", "LOG", "SELECT * EXCLUDE (groups) FROM raters"),
        ("erase", "LOG", "@html"),
        ("show", "LOG", "consent", "--rater", "@sql", "--jsonld"),
    ],
)
def test_no_other_verb_names_anybody(panel: Panel, verb: tuple[str, ...]) -> None:
    known = {"LOG": panel.log} | {f"@{kind}": rater for kind, rater in panel.raters.items()}
    words = [known.get(word, word) for word in verb]
    for options in ((), ("--json",)) if "--jsonld" not in verb else ((),):
        reply = run(*words, *options)
        assert reply.code in (0, 1) and harmless(reply.out + reply.err)
        assert CANARY not in reply.out + reply.err


def test_groups_are_values_in_sql_and_never_its_text(panel: Panel) -> None:
    reply = run("sql", panel.log, "SELECT rater_id, groups FROM raters", "--json")
    rows = {row["rater_id"]: row["groups"] for row in reply.result["rows"]}
    for kind, rater in panel.raters.items():
        groups = rows[rater]
        pairs = groups if isinstance(groups, dict) else dict(map(tuple, groups))
        assert pairs == {HOSTILE[kind].replace("=", "≡").strip(): HOSTILE[kind].strip()}
    assert harmless(run("sql", panel.log, "SELECT rater_id, groups FROM raters").out)


def test_no_report_or_hand_out_holds_a_name(panel: Panel, tmp_path: Path) -> None:
    log, report, out = tmp_path / "log", tmp_path / "report", tmp_path / "out"
    shutil.copytree(panel.log, log)
    assert run("report", log, "--to", report).code == 0
    assert run("export", log, "--format", "csv", "--to", out).code == 0
    for path in [*report.rglob("*"), *out.rglob("*")]:
        assert not (path.is_file() and residue.holds(path.read_bytes(), [CANARY.encode()]))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", ["html", "right to left", "ansi", "formula", "nul", "newlines", "template"])
def test_their_own_copy_names_them_exactly_and_does_nothing(panel: Panel, tmp_path: Path, kind: str) -> None:
    reply = run("export", panel.log, "--rater", panel.raters[kind], "--to", tmp_path / "copy")
    assert reply.code == 0 and CANARY not in reply.out + reply.err
    raw = (tmp_path / "copy" / "index.html").read_bytes()
    page = _Page()
    page.feed(raw.decode("ascii"))
    assert (
        CANARY in page.text
        and not {"script", "img"} & {*page.tags}
        and b"\x1b" not in raw
        and b"\0" not in raw
    )
    assert "\u202e" not in page.text
    assert json.loads((tmp_path / "copy" / "you.json").read_text("ascii"))["alias"] == HOSTILE[kind]
    assert all(CANARY not in path.name for path in (tmp_path / "copy").rglob("*"))


@pytest.mark.parametrize("text", ["\ud800", f"{CANARY}\udcff"])
def test_half_a_character_is_refused_and_enrols_nobody(panel: Panel, cli: Cli, text: str) -> None:
    size = Log(panel.log).ledger.head.size
    for options in (("--alias", text), ("--group", f"a={text}"), ("--group", f"{text}=a")):
        reply = cli("enroll", panel.log, *options)
        assert reply.code == 2 and CANARY not in reply.err
    assert Log(panel.log).ledger.head.size == size


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u2003"])
def test_an_empty_name_is_none_and_an_empty_group_is_refused(tmp_path: Path, cli: Cli, text: str) -> None:
    assert cli("init", tmp_path / "log").code == 0
    assert cli("enroll", tmp_path / "log", "--alias", text).code == 0
    assert harmless(cli("show", tmp_path / "log", "raters").out)
    for group in (f"{text}=a", f"a={text}"):
        assert cli("enroll", tmp_path / "log", "--group", group).code == 2


def test_terms_are_kept_to_the_byte_and_shown_harmlessly(tmp_path: Path, cli: Cli) -> None:
    log = tmp_path / "log"
    assert cli("init", log).code == 0
    rater = cli("enroll", log, "--json").result["rater_id"]
    for number, (kind, text) in enumerate(HOSTILE.items()):
        file = tmp_path / f"terms-{number}"
        file.write_bytes(text.encode())
        added = cli("terms", log, file, "--json")
        assert added.code == 0, kind
        digest = added.result["terms_sha256"]
        assert (log / "terms" / f"{digest}.md").read_bytes() == text.encode()
        shown, asked = (
            cli("show", log, "terms"),
            cli("consent", log, rater, "--purpose", "audit", stdin="no\n"),
        )
        assert harmless(shown.out) and harmless(asked.err) and asked.code == 3
        assert CANARY in shown.out and CANARY in asked.err
        assert cli("show", log, "terms", "--json").result["rows"][0]["text"] == text
    assert {path.suffix for path in (log / "terms").iterdir()} == {".md"}
    assert verify(log).ok


def test_they_are_erased_wholly_and_their_twins_are_not(panel: Panel) -> None:
    # Last: it takes from the panel.
    gone = ("html", "ansi", "nul", "newlines", "decomposed", "long of bytes", "sql", "path")
    for kind in gone:
        reply = run("erase", panel.log, panel.raters[kind], "--apply", "--json")
        assert reply.code == 0 and CANARY not in reply.out + reply.err, kind
        assert "found" not in reply.result and "left" not in reply.result
    left = {panel.raters[kind] for kind in HOSTILE if kind not in gone}
    assert {path.stem for path in (panel.log / "keys").iterdir()} == left
    assert {panel.raters["composed"], panel.raters["upper"]} < left
    for path in panel.log.rglob("*"):
        if path.is_file() and path.parent.name != "keys":
            assert not residue.holds(path.read_bytes(), [CANARY.encode()])
    assert verify(panel.log).ok
