"""docs/threat-model.md promises nothing whose test is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+(?:\.py)?/?)(?:::(\w+))?`")


def test_every_test_that_the_threat_model_names_is_there() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    named = NAMED.findall(text)
    assert len(named) > 15 and text.count("`tests/") == len(named) + text.count("`tests/…")
    for place, name in named:
        assert (ROOT / place).exists(), place
        assert not name or f"def {name}(" in (ROOT / place).read_text(), f"{place}::{name}"


def test_every_make_target_that_it_names_is_there() -> None:
    made = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`make ([\w-]+)`", (ROOT / "docs" / "threat-model.md").read_text())
    assert targets and all(f"\n{target}:" in made for target in targets)
