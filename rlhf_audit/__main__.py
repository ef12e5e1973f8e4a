"""``python -m rlhf_audit``: the command line, where no script is installed."""

import sys

from rlhf_audit.cli.app import main

sys.exit(main())
