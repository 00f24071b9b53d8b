"""``python -m llamaherd``."""

import sys

from llamaherd.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
