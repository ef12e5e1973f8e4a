"""The helpers that these tests share with those of recording."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "recording"))
