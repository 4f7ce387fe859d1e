"""``python -m memxlnet``: the command line."""

import sys

from memxlnet.cli.commands import main

sys.exit(main())
