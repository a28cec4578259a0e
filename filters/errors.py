"""The one tree of errors; curate and mixtures re-export it.

    CurationError                something this project raises on purpose
      ConfigError                the user's configuration is wrong               exit code 2
        MissingExtra             a feature needs a package that is not there     exit code 2
      DataError                  the user's data is wrong                        exit code 3
      RunError                   the run itself failed                           exit code 4

A message says where, what was found, what is allowed, and what to do about it:
``demo.yaml: $.dedup.minhash.ngam: no such setting; did you mean 'ngram'?``
"""

from __future__ import annotations

from collections.abc import Sequence


class CurationError(Exception):
    """Anything that this project raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(CurationError):
    """One or more mistakes in a configuration, all reported at once.

    Attributes:
        faults: one line for each mistake, each naming its place, what was found, and the remedy.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        count = len(self.faults)
        heading = "" if count == 1 else f"{count} mistakes in the configuration:\n  "
        super().__init__(heading + "\n  ".join(self.faults))


class MissingExtra(ConfigError):
    """A feature was asked for whose optional packages are not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package '{package}'. Install it: pip install 'curate-mixtures[{extra}]'"
        )


class DataError(CurationError):
    """The data does not fit: unreadable files, too many bad records, another format than declared."""

    exit_code = 3


class RunError(CurationError):
    """The run could not be finished: a part failed, a lock is held, a promise was broken."""

    exit_code = 4
