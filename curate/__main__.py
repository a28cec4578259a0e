"""The command line: ``curate run | dedup | explain | compare | clean``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from curate.dedup_command import add_dedup_arguments
from filters.errors import ConfigError, CurationError, RunError


def add_where_and_how(parser: argparse.ArgumentParser) -> None:
    """Flags that say where and how a run happens, never what it makes."""
    parser.add_argument(
        "--engine",
        choices=("auto", "inline", "ray"),
        default="auto",
        help="what schedules the work (default: auto)",
    )
    parser.add_argument("--workers", type=int, help="parts at a time on Ray (default: all CPUs)")
    parser.add_argument("--ray-address", help="join this Ray cluster; it is never shut down")


def start_logging() -> None:
    """Log lines on stderr, results on stdout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curate", description="Raw files into curated shards, with a reason for every drop."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="curate the sources of a config into a run directory")
    run.add_argument("config", type=Path)
    run.add_argument("--out", type=Path, required=False, help="the run directory")
    run.add_argument(
        "--show-config", action="store_true", help="print the config with every default, and stop"
    )
    add_where_and_how(run)

    dedup = commands.add_parser("dedup", help="remove duplicates from files, told by flags")
    add_dedup_arguments(dedup)
    add_where_and_how(dedup)

    explain = commands.add_parser("explain", help="say what became of a document, and why")
    explain.add_argument("run", type=Path)
    explain.add_argument("id")
    explain.add_argument("--source", help="only the document of this source")

    compare = commands.add_parser("compare", help="check that two run directories hold the same bytes")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)

    clean = commands.add_parser("clean", help="delete private steps that the last run did not use")
    clean.add_argument("run", type=Path)
    clean.add_argument(
        "--all", action="store_true", help="delete all private steps; public files stay, a rerun starts anew"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, 2 bad config, 3 bad data, 4 failed run)."""
    options = build_parser().parse_args(arguments)
    start_logging()
    try:
        commands = {"run": _run, "dedup": _dedup, "explain": _explain, "compare": _compare, "clean": _clean}
        return commands[options.command](options)
    except CurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # no space, no permission, a file where a folder should be
        print(f"error: {error.strerror or error}: {error.filename or options.command}", file=sys.stderr)
        return RunError.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished parts are kept: run the same command again to go on", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from curate.config import load_config, show_config
    from curate.pipeline import config_faults, run_curation
    from curate.settings import CurateConfig

    config = load_config(options.config, CurateConfig, check=None if options.show_config else config_faults)
    if options.show_config:
        print(show_config(config), end="")
        return 0
    if options.out is None:
        raise ConfigError("--out: missing; give the run directory, for instance --out runs/demo/curated.")
    curated = run_curation(
        config,
        options.out,
        engine=options.engine,
        workers=options.workers,
        ray_address=options.ray_address,
        name=options.config.name,
    )
    columns = ("read", "quarantined", "documents", "dropped", "kept")
    width = max(len(name) for name in [*curated.counts, "source", "all"])
    print(f"{'source':<{width}}" + "".join(f"{c:>13}" for c in columns))
    for name, counts in curated.counts.items():
        print(f"{name:<{width}}" + "".join(f"{counts[c]:>13,}" for c in columns))
    print(
        f"{'all':<{width}}" + "".join(f"{sum(c[k] for c in curated.counts.values()):>13,}" for k in columns)
    )
    print(f"report: {options.out / 'report.html'}")
    return 0


def _dedup(options: argparse.Namespace) -> int:
    from curate.dedup_command import run_dedup, summary_lines

    print("\n".join(summary_lines(run_dedup(options))))
    print(f"\nreport: {options.out / 'report.html'}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from curate.explanation import explain

    for explanation in explain(options.run, options.id, source=options.source):
        print(explanation)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from curate.manifest import compare, verify_shards

    digest = compare(options.first, options.second)
    print(f"equal: {verify_shards(options.first)} shards, manifest sha256 {digest}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from curate.engine import clean

    removed = clean(options.run, everything=options.all)
    print(f"{len(removed)} step(s) deleted from {options.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
