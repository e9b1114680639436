"""`hma status`: what the running agent of this node says now."""

from __future__ import annotations

import argparse
import json

from hma.cli.client import ask
from hma.cli.common import settings_of
from hma.cli.shown import REASON, checks_text, exit_code, faults_text, short, verdict_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the form of the answer."""
    parser.add_argument("--json", action="store_true", help="print the agent's answer as it is")


def run(args: argparse.Namespace) -> int:
    """Print verdict, faults and checks; the exit code is that of the verdict's health."""
    body = ask(settings_of(args).config.run_dir, "/v1/status")
    verdict = body["verdict"]
    if args.json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        node, log = body["node"], body["kernel_log"]
        named = ", ".join(filter(None, (node["hostname"], node["instance_type"], node["instance_id"])))
        print(f"{named}: {verdict_text(verdict)}\n\n{faults_text(body['faults'])}\n\n{checks_text(body['checks'])}\n")
        print(f"agent {body['version']}, pid {body['pid']}, up {body['uptime_s']:.0f} s, journal {_journal(body['journal'])}")
        print(f"kernel log {_kernel_log(log)}")
        if body["journal"]["trace_trouble"]:
            print(f"trace {body['journal']['trace_trouble']}")
        for problem in body["problems"]:
            print(f"problem: {short(problem, REASON)}")
        if body["children"]["left_behind"]:
            print(f"{body['children']['left_behind']} programs are stuck in the kernel and were left behind")
    return exit_code([verdict["health"] if verdict else "unknown"])


def _journal(journal: dict[str, str]) -> str:
    return f"{journal['directory']}: {journal['trouble'] or 'good'}"


def _kernel_log(log: dict[str, object]) -> str:
    if log["trouble"]:
        # What the reader says names the path already; what is said before it has opened does not.
        return f"{log['path']}: " + str(log["trouble"]).removeprefix(f"{log['path']}: ")
    counted = ("seen", "lost", "foreign", "spoofed", "malformed")
    return f"{log['path']}: " + ", ".join(f"{log[name]} {name}" for name in counted)
