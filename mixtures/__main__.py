"""The command line: ``mixtures plan | build | study``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from curate.__main__ import add_where_and_how, start_logging
from filters.errors import ConfigError, CurationError

T = TypeVar("T")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mixtures", description="Tasks and documents into training mixtures, and which is better."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (
        ("plan", "check the tasks and print the expected share of every leaf"),
        ("build", "build the mixture directory: pool, packs, held-out items"),
        ("study", "fine-tune a small model on competing mixtures and compare them"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("config", type=Path)
        command.add_argument("--out", type=Path, help="the directory to make")
        command.add_argument(
            "--show-config", action="store_true", help="print the config with every default, and stop"
        )
        add_where_and_how(command)
        if name == "study":
            command.add_argument(
                "--device", default="auto", help="where to train: auto, cpu, cuda, cuda:1 (default: auto)"
            )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, 2 bad config, 3 bad data, 4 failed run)."""
    options = build_parser().parse_args(arguments)
    start_logging()
    try:
        return {"plan": _plan, "build": _build, "study": _study}[options.command](options)
    except CurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished parts are kept: run the same command again to go on", file=sys.stderr)
        return 130


def _where_and_how(options: argparse.Namespace) -> dict[str, Any]:
    return {"engine": options.engine, "workers": options.workers, "ray_address": options.ray_address}


def _out(options: argparse.Namespace) -> Path:
    if options.out is None:
        raise ConfigError(
            f"--out: missing; give the directory to make, for instance --out runs/{options.config.stem}."
        )
    return Path(options.out)


def _load(
    options: argparse.Namespace, cls: type[T], check: Callable[[T], list[str]] | None = None
) -> T | None:
    """The config, or None when it was only to be shown."""
    from curate.config import load_config, show_config

    config = load_config(options.config, cls, check=None if options.show_config else check)
    if options.show_config:
        print(show_config(config), end="")
        return None
    return config


def _plan(options: argparse.Namespace) -> int:
    from mixtures.build import config_faults, plan_mixture
    from mixtures.config import MixtureConfig

    config = _load(options, MixtureConfig, config_faults)
    if config is not None:
        planned = plan_mixture(config, _out(options), **_where_and_how(options))
        print(planned.table())
    return 0


def _build(options: argparse.Namespace) -> int:
    from mixtures.build import build_mixture, config_faults
    from mixtures.config import MixtureConfig

    config = _load(options, MixtureConfig, config_faults)
    if config is not None:
        built = build_mixture(config, _out(options), **_where_and_how(options))
        print(built.planned.table())
        print(f"mixture: {options.out}")
    return 0


def _study(options: argparse.Namespace) -> int:
    # Threads that wait without spinning: spinning ones stall each other when another process is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    from mixtures.study.report import judge
    from mixtures.study.run import config_faults, run_study
    from mixtures.study.settings import StudyConfig

    config = _load(options, StudyConfig, config_faults)
    if config is not None:
        out = _out(options)
        flags = "" if options.device == "auto" else f" --device {options.device}"
        done = run_study(
            config,
            out,
            device=options.device,
            name=options.config.name,
            # without the place: equal studies leave equal files
            command=f"mixtures study {options.config} --out DIR{flags}",
            **_where_and_how(options),
        )
        print(f"verdict: {judge(done).sentence}")
        print(f"report: {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
