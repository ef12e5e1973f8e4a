"""What the README shows of `make demo` is what the demo prints, but for what is new each time."""

import re
from pathlib import Path

from rlhf_audit import demo
from rlhf_audit.verification import verify

README = Path(__file__).parents[2] / "README.md"


def settled(text: str) -> str:
    """Return ``text`` with pseudonyms and dates made equal."""
    text = re.sub(r"r-[0-9a-f]{8}", "r-00000000", text)
    return re.sub(r"\d{4}-\d{2}-\d{2}", "2000-01-01", text)


def test_readme_shows_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "key"))
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    result = demo.run(Path("demo"), lines.append)
    shown = re.search(r"<!-- demo -->\n```\n(.*?)```\n<!-- /demo -->", README.read_text(), re.DOTALL)
    assert shown is not None
    assert settled("\n".join(lines)) == settled(shown[1].rstrip("\n"))
    assert result["replayed_identical"] and result["verified"] and result["mean_return"] >= 475
    assert result["weights_sha256"] == result["control_weights_sha256"]
    assert verify(Path("demo/control/log")).ok
    # A second tour replaces the first.
    assert (tmp_path / "demo" / "report" / "report.html").exists()
