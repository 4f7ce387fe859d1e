"""``python -m memxlnet``: the command line."""

import sys

from memxlnet.cli.app import main

sys.exit(main())
