"""Report the results of test runs: print a line for each, and write a row in docs/platforms.md.

The files are pytest's JUnit reports, one a run, named after the user. The exit status is 1 if a run
failed or its report is missing. ``--given`` holds pytest's arguments. The row says if they were a
share of the tests. Any other selection of tests is not written down.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path("docs/platforms.md")


def counts(report: Path) -> tuple[int, int, int]:
    """How many tests passed, were skipped, failed."""
    suite = ElementTree.parse(report).getroot()[0].attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return int(suite["tests"]) - failed - skipped, skipped, failed


def write(table: str, begin: str, row: str) -> None:
    """Replace the row with that beginning in the table after the line <!-- TABLE -->, or add it."""
    before, mark, text = PAGE.read_text().partition(f"<!-- {table} -->\n")
    if not mark:
        sys.exit(f"{PAGE} has no table {table}")
    body, end, after = text.partition("\n\n")
    head, rule, *rows = body.splitlines()
    rows = [old for old in rows if not old.startswith(begin)]
    PAGE.write_text("".join([before, mark, "\n".join([head, rule, *rows, row]), end or "\n", after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--given", default="")
    parser.add_argument("table")
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("reports", nargs="+", type=Path)
    options = parser.parse_args()
    share = re.fullmatch(r"--share[ =](\d+)", options.given)
    good = True
    for report in options.reports:
        what = f"{options.name} ({options.version}), as {report.stem}"
        try:
            passed, skipped, failed = counts(report)
        except (FileNotFoundError, ElementTree.ParseError) as error:
            print(f"{what}: no result: {error}", flush=True)
            good = False
            continue
        print(f"{what}: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
        good = good and passed > 0 and failed == 0
        if share or not options.given:
            done = f"{passed} (every {share[1]}th test)" if share else str(passed)
            begin = f"| {options.name} | {report.stem} | "
            rest = [options.version, done, str(skipped), str(failed), f"{datetime.now(timezone.utc):%Y-%m-%d}"]
            write(options.table, begin, begin + " | ".join(rest) + " |")
    sys.exit(not good)


main()
