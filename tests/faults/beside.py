"""Where the worlds of other tests are, for scripts that borrow them: to be imported first."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("log", "kills", "recording")]
