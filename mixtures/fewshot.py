"""Exemplars for few-shot examples: drawn, never leaked, and as many as fit.

An exemplar is another row of the same task, rendered by the same template. Which rows are drawn is a hash of (seed,
leaf, row, epoch), so it does not depend on who renders what when. A row is never an exemplar of itself, nor is one that
asks the same question (equal after case, punctuation and white space are taken away): pipelines that draw exemplars
from an independent shuffle show the model its own answer in k of N cases, 2% for a task as small as CB.

How many fit is decided before any is drawn, so that the choice does not favour short rows beyond what the room demands:
the number of shots is the largest k, up to the wanted one, for which at least half of the task's rows have at most
room / k tokens; the exemplars are drawn among these rows.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import numpy.typing as npt

from mixtures.draws import draw_below, key_of

_TRIES = 64
"""Draws for one example; rows that are refused (itself, the same question, a repetition) cost one each."""


def question_key(text: str) -> int:
    """63 bits of a hash of a question, the same for texts that differ in case, punctuation and white space only.

    >>> question_key("What is  2 + 3?") == question_key("what is 2 3")
    True
    """
    # A question of nothing but signs (an equation of symbols) keeps them.
    normal = " ".join(re.findall(r"\w+", text.casefold())) or " ".join(text.split())
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "little") >> 1


class ExemplarPool:
    """The rows of a task, ordered by how much room they take as exemplars.

    Args:
        sizes: (rows,) tokens of each row as an exemplar.
        keys: (rows,) ``question_key`` of each row.
        seed: of the mixture.
        leaf: whose examples are made.
    """

    def __init__(
        self, sizes: npt.NDArray[np.integer], keys: npt.NDArray[np.int64], *, seed: int, leaf: str
    ) -> None:
        self._by_size = np.argsort(sizes, kind="stable")
        self._sorted = np.asarray(sizes)[self._by_size]
        self._keys = keys
        self._seed, self._leaf = seed, leaf

    def draw(self, row: int, epoch: int, *, shots: int, room: int) -> list[int]:
        """The exemplar rows of one example, at most ``shots`` and none that ``row`` must not see.

        Args:
            row: the row that is asked.
            epoch: draws differ between epochs.
            shots: wanted number.
            room: tokens that the exemplars may take together.
        """
        k, eligible = self._fitting(shots, room)
        if k == 0:
            return []
        key = key_of(self._seed, self._leaf, "exemplars", row, epoch)
        ranks = draw_below(key, np.arange(_TRIES), eligible)
        chosen: list[int] = []
        seen = {int(self._keys[row])}
        for candidate in self._by_size[ranks].tolist():
            question = int(self._keys[candidate])
            if candidate != row and question not in seen:
                chosen.append(candidate)
                seen.add(question)
                if len(chosen) == k:
                    break
        return chosen

    def _fitting(self, shots: int, room: int) -> tuple[int, int]:
        """(k, how many of the shortest rows may be drawn)."""
        for k in range(shots, 0, -1):
            eligible = int(np.searchsorted(self._sorted, room // k, side="right"))
            if eligible * 2 >= len(self._sorted) and eligible > 0:
                return k, eligible
        return 0, 0
