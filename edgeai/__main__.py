"""`python -m edgeai`."""

from __future__ import annotations

import sys

from edgeai.cli import main

if __name__ == "__main__":
    sys.exit(main())
