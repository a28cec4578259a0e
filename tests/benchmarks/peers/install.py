"""A virtual environment for each peer, with pinned versions: ``python tests/benchmarks/peers/install.py``.

What is there already stays. A peer that does not install is listed with the reason, and the others go on.
text-dedup needs Python 3.12: ``--peer-python``, this interpreter, or one on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "curate-mixtures" / "peers"
PEERS = {  # name: least Python, requirements
    "rensa": ((3, 10), ("rensa==0.5.0", "numpy==2.4.6", "pyarrow==26.0.1")),
    "datasketch": ((3, 10), ("datasketch==2.0.0", "numpy==2.4.6", "pyarrow==26.0.1")),
    "datatrove": ((3, 10), ("datatrove[io,processing]==0.10.1", "spacy==3.8.18", "pyarrow==26.0.1")),
    "text-dedup": ((3, 12), ("text-dedup==0.4.0", "pyarrow==26.0.1")),
}


def python_of(folder: Path, peer: str) -> Path:
    return folder / peer / "bin" / "python"


def installed(folder: Path, peer: str) -> bool:
    """Whether the environment was made with these requirements."""
    done = folder / peer / "installed.json"
    return done.exists() and json.loads(done.read_text()) == list(PEERS[peer][1])


def install(folder: Path, peer: str, pythons: list[str]) -> str:
    """Makes the environment; returns "" or the reason why there is none."""
    least, requirements = PEERS[peer]
    if installed(folder, peer):
        return ""
    python = next((p for p in pythons if _version(p) >= least), None)
    if python is None:
        return f"needs Python {least[0]}.{least[1]}; give one with --peer-python"
    shutil.rmtree(folder / peer, ignore_errors=True)
    for command in (
        [python, "-m", "venv", str(folder / peer)],
        [str(python_of(folder, peer)), "-m", "pip", "install", "--quiet", *requirements],
    ):
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            lines = [
                line for line in ran.stderr.splitlines() if line.strip() and not line.startswith("WARNING")
            ]
            return lines[-1] if lines else f"{command[0]} ended with {ran.returncode}"
    (folder / peer / "installed.json").write_text(json.dumps(list(requirements)))
    return ""


def pythons(given: str | None) -> list[str]:
    names = (given, sys.executable, "python3.12", "python3.13")
    return [path for name in names if name and (path := shutil.which(name))]


def _version(python: str) -> tuple[int, ...]:
    """(3, 12), or () where it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return tuple(map(int, ran.stdout.split())) if ran.returncode == 0 else ()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peers", type=Path, default=FOLDER, help=f"where (default: {FOLDER})")
    parser.add_argument("--peer-python", help="an interpreter for peers that need a newer one than this")
    parser.add_argument("names", nargs="*", choices=[[], *PEERS], help="default: all")
    options = parser.parse_args()
    options.peers.mkdir(parents=True, exist_ok=True)
    for peer in options.names or PEERS:
        reason = install(options.peers, peer, pythons(options.peer_python))
        print(f"{peer}: {reason or 'installed, ' + ', '.join(PEERS[peer][1])}", flush=True)


if __name__ == "__main__":
    main()
