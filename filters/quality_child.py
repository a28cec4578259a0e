"""One training in a process of its own, started by ``filters.quality.train_quality``, which says why.

    python -m filters.quality_child REQUEST     REQUEST: the arguments of ``filters.quality.fit``, a JSON object

Exit code 0, or 4 with the reason as the last line of stderr.
"""

from __future__ import annotations

import json
import sys

from filters.errors import RunError
from filters.quality import fit

if __name__ == "__main__":
    try:
        fit(**json.loads(sys.argv[1]))
    except RunError as fault:
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_code)
