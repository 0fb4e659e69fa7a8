"""The server that speaks the Messages API, as `brewd bench agent` has it: it does as a test tells it."""

from brewd.cli.bench_upstream import ANSWER, ERRORS, Request, Script, Upstream, open_upstream

__all__ = ["ANSWER", "ERRORS", "Request", "Script", "Upstream", "open_upstream"]
