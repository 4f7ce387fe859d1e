"""``python -m memxlnet.cli``: the command line."""

import sys

from memxlnet.cli.commands import main

sys.exit(main())
