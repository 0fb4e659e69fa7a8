"""Where the API key is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from brewd.config_agent import Agent


def api_key(config: Agent, env: Mapping[str, str] = os.environ) -> str:
    """The key, from the file of the config or the environment; empty when there is none, or the file is gone."""
    if not config.api_key_file:
        return env.get("ANTHROPIC_API_KEY", "").strip()
    try:
        return Path(config.api_key_file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
