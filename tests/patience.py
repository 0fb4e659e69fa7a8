"""How long a proof waits for what should be quick.

What brewd promises in seconds is promised for a machine that has the time. A busy one is given five times as much before a test
calls it broken; `BREWD_TEST_STRICT=1` holds everything to the letter.
"""

from __future__ import annotations

import os

PATIENCE = 1.0 if os.environ.get("BREWD_TEST_STRICT") else 5.0
