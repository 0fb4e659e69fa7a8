"""`brewd agent show|set`: the agent of a café: how it talks, what it may cost, what it has cost."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from brewd.cli import options, output
from brewd.cli.output import Exit

_PERSONAS = ("bartender", "quirky", "historian", "sarcastic", "professional", "custom")
_PROACTIVITY = ("silent", "occasional", "active", "hype")
_FIELDS = {
    "enabled": "enabled",
    "persona": "persona",
    "custom_text": "customText",
    "proactivity": "proactivity",
    "daily_budget_cents": "dailyBudgetCents",
    "monthly_budget_cents": "monthlyBudgetCents",
}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "agent", help="the AI agent of a café", description="The AI agent of a café: how it talks, what it may cost, and what it has cost."
    )
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options(), options.cafe_option()]
    verbs.add_parser("show", parents=client, help="show how it is set, how it is, and what it has cost")
    change = verbs.add_parser("set", parents=client, help="change it, from the next question on", description="Change what is given and leave the rest.")
    switch = change.add_mutually_exclusive_group()
    switch.add_argument("--enabled", action="store_true", default=None, help="it answers")
    switch.add_argument("--disabled", dest="enabled", action="store_false", help="it does not")
    change.add_argument("--persona", choices=_PERSONAS, help="how it talks")
    change.add_argument("--custom-text", metavar="TEXT", type=_text_or_stdin, help="how the persona custom talks; - reads it from stdin")
    change.add_argument(
        "--proactivity",
        choices=_PROACTIVITY,
        help="how often it says something by itself where two and more are and few talk: at most every 10 minutes (occasional), 5 (active) or 2 (hype)",
    )
    for period in ("daily", "monthly"):
        change.add_argument(
            f"--{period}-budget-cents", metavar="N", type=_budget, help=f"what it may cost {'a day' if period == 'daily' else 'a month'}; the word none: no end"
        )


def _text_or_stdin(text: str) -> str:
    return sys.stdin.read().strip() if text == "-" else text


def _budget(text: str) -> int | str:
    if text == "none":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number of cents nor the word none")
    return int(text)


def run(args: argparse.Namespace) -> int:
    if args.action == "show":
        answer = options.call(args, "agent.show", cafeId=args.cafe)
    else:
        given = {param: None if value == "none" else value for name, param in _FIELDS.items() if (value := getattr(args, name)) is not None}
        if not given:
            raise Exit(output.USAGE, "nothing to set; see brewd agent set --help")
        answer = options.call(args, "agent.set", cafeId=args.cafe, **given)
    output.emit(args, answer, _text(answer))
    if answer["status"]["state"] != "ok" and not args.json:
        output.say(f"the agent answers nobody: {answer['status']['reason']}")
    return output.OK


def _text(answer: dict[str, Any]) -> str:
    config, status, spent = answer["config"], answer["status"], answer["spent"]
    hit_rate = spent["hitRate"]
    return output.facts(
        [
            ("agent", "enabled" if config["enabled"] else "disabled"),
            ("status", status["state"]),
            ("persona", config["persona"]),
            ("custom text", config["customText"]),
            ("by itself", config["proactivity"]),
            ("today", _period(spent["queriesToday"], spent["costTodayMicrocents"], config["dailyBudgetCents"])),
            ("this month", _period(spent["queriesMonth"], spent["costMonthMicrocents"], config["monthlyBudgetCents"])),
            ("hit rate", None if hit_rate is None else f"{100 * hit_rate:.0f} % of this month's questions were answered without a call"),
        ]
    )


def _period(queries: int, microcents: int, budget_cents: int | None) -> str:
    of = "no budget" if budget_cents is None else f"a budget of {budget_cents} cents"
    return f"{queries} questions, {microcents / 1e6:.2f} cents of {of}"
