"""brewd: a realtime server for cafés."""

__version__ = "0.1.0"
