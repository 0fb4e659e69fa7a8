"""`python -m brewd` is the `brewd` command."""

import sys

from brewd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
