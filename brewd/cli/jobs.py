"""`brewd jobs list|run`: what brewd does by the clock, when it did, and doing it now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse

_RUN_S = 660.0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("jobs", help="what brewd does by the clock", description="What brewd does by the clock, for all cafés. Times are UTC.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verbs.add_parser("list", parents=[options.client_options()], help="list the jobs, with their last run and their next")
    run = verbs.add_parser(
        "run", parents=[options.client_options()], help="run one now, and wait for its end",
        description="Run a job now, and wait for its end; not when it is under way already. An end of this command interrupts nothing.",
    )  # fmt: skip
    run.add_argument("name", metavar="NAME", help="as `brewd jobs list` has it")
    run.set_defaults(timeout=_RUN_S)


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        answer = options.call(args, "jobs.list")
        rows = [(job["name"], job["cron"], *_last(job["last"]), job["next"]) for job in answer["jobs"]]
        output.emit(args, answer, output.table(("JOB", "SCHEDULE", "LAST RUN", "OUTCOME", "TOOK", "NEXT"), rows))
        return output.OK
    answer = options.call(args, "jobs.run", name=args.name)
    done = answer["run"]
    took = f"{done['durationMs'] / 1000:.3g} s"
    output.emit(args, answer, output.facts([("outcome", done["outcome"]), ("took", took), *done["detail"].items()]))
    return output.OK if done["outcome"] == "ok" else output.FAILED


def _last(run: dict[str, Any] | None) -> tuple[str | None, str, str | None]:
    if run is None:
        return None, "never ran", None
    if run["endedAt"] is None:
        return run["startedAt"], "under way", None
    return run["startedAt"], run["outcome"], f"{run['durationMs'] / 1000:.3g} s"
