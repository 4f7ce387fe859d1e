"""``python -m memxlnet.cli``."""

import sys

from memxlnet.cli.app import main

sys.exit(main())
