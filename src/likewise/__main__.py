"""``python -m likewise``."""

import sys

from likewise.cli.main import main

sys.exit(main())
