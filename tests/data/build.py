"""Build the sample data of this folder from the project's shared data folder.

    python tests/data/build.py SHARED          # or set CURATE_SHARED; SHARED holds data/README.md

Everything here but SOURCES.md's prose, LICENSES/ and bad/README.md is written by this script: documents/ (some 5,800
documents of 20 sources in every input format), tasks/ (four raw and four rendered task sets), eval/ (items to hold out
and to decontaminate against), truth/ (exact near-duplicate pairs and 13-gram overlaps), bad/ (broken files), and the
table of SOURCES.md. The choice of rows depends on nothing but the SHA-256 of stable keys, so a second run with the same
library versions writes the same bytes.

How documents are chosen: the key of a document's *family* names the page, not its version, language or package (the
same manual page of two releases, one handbook page in 26 languages, one headword in two dictionaries). Families are
taken whole, in the order of the SHA-256 of their key, so that natural exact and near duplicates stay together. Texts
are never cleaned. A document whose licence is not clearly one of ALLOWED stays out.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import zstandard

Row = dict[str, Any]

HERE = Path(__file__).resolve().parent
FIELDS = ("id", "text", "url", "lang", "license", "form", "code_lang")

ALLOWED = (
    "Public-Domain",
    "CC0-1.0",
    "CC-BY-2.0-FR",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "MIT",
    "Apache-2.0",
    "PSF-2.0",
    "PostgreSQL",
    "Unicode-DFS-2016",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "GPL-2.0-only WITH Linux-syscall-note",
    "GPL-2.0-or-later WITH Linux-syscall-note",
    "GFDL-1.1-or-later",
    "GFDL-1.1-no-invariants-or-later",
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of SOURCES.md's table. `file` is relative to this folder; `rows` counts records (files of a folder)."""

    file: str
    rows: int
    licenses: tuple[str, ...]
    origin: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "shared", nargs="?", default=os.environ.get("CURATE_SHARED"), help="the shared folder"
    )
    shared = parser.parse_args().shared
    if shared is None or not (Path(shared) / "data" / "README.md").is_file():
        sys.exit("build.py: give the shared folder (the one that holds data/README.md) or set CURATE_SHARED")
    data = Path(shared) / "data"
    for folder in ("documents", "tasks", "eval", "truth", "bad"):
        for old in sorted((HERE / folder).glob("*")):
            if old.is_dir():
                shutil.rmtree(old)
            elif old.name != "README.md":
                old.unlink()
        (HERE / folder).mkdir(exist_ok=True)

    sources = choose_documents(data)
    listed = write_documents(sources)
    tasks, task_lines = build_tasks(data)
    listed += task_lines
    items, eval_lines = build_evaluation(data, sources["speeches"], tasks["aqua"])
    listed += eval_lines
    listed += build_truth(sources, tasks, items)
    build_bad()
    write_table(listed)


# --- documents: which ones -------------------------------------------------------------------------------------------


def choose_documents(data: Path) -> dict[str, list[Row]]:
    """Source name -> its documents (FIELDS; absent fields left out), each list in the order of its family keys."""
    corpus = data / "corpus"
    books, manuals = read_corpus(corpus, "books"), read_corpus(corpus, "manuals")
    prose, short = read_corpus(corpus, "prose"), read_corpus(corpus, "short")
    code, tables = read_corpus(corpus, "code"), read_corpus(corpus, "tables")

    contents = contents_pages(books + manuals)
    listed = {row["id"] for row in contents}
    books = [row for row in books if row["id"] not in listed]
    manuals = [row for row in manuals if row["id"] not in listed]

    def of(rows: Sequence[Row], *names: str) -> list[Row]:
        return [row for row in rows if row["source"] in names]

    sources = {
        "speeches": speeches(of(prose, "inaugural", "state_union"), data),
        "plays": plays(of(prose, "shakespeare")),
        "genesis": licensed(
            [
                r
                for r in of(prose, "genesis")
                if re.search(r"/(english-web|english-kjv|french|swedish)\.txt", r["url"])
            ],
            lambda row: "Public-Domain",
        ),
        "udhr": families(
            licensed(of(prose, "udhr", "udhr2"), lambda row: "Public-Domain"),
            udhr_key,
            take=30,
            first=UDHR_FIRST,
        ),
        "wiki": licensed(
            [r for r in of(prose, "xquad-context") if r["lang"] in XQUAD_LANGUAGES],
            lambda row: "CC-BY-SA-4.0",
        ),
        "linux": families(
            licensed(read_corpus(corpus, "linux"), linux_license),
            below_version,
            take=300,
            max_bytes=10_000,
            at_least=2,
        ),
        "postgresql": families(
            licensed(of(manuals, "postgresql-doc"), lambda row: "PostgreSQL"),
            below_version,
            take=110,
            max_bytes=9_000,
            at_least=2,
        ),
        "python": families(
            licensed(of(manuals, "python-doc"), lambda row: "PSF-2.0"),
            python_key,
            take=70,
            max_bytes=14_000,
            at_least=2,
        ),
        "sqlite": families(
            licensed(of(manuals, "sqlite-doc"), lambda row: "Public-Domain"),
            file_name,
            take=50,
            max_bytes=6_000,
        ),
        "git": families(
            licensed(of(manuals, "git-doc"), lambda row: "GPL-2.0-only"),
            page_stem,
            take=35,
            max_bytes=10_000,
            at_least=2,
        ),
        "contents": contents,
        "handbook": families(
            licensed(of(books, "debian-handbook"), lambda row: "CC-BY-SA-3.0"),
            file_name,
            take=18,
            max_bytes=9_000,
        ),
        "aptitude": families(
            licensed(of(books, "aptitude-doc"), lambda row: "GPL-2.0-or-later"),
            file_name,
            take=60,
            max_bytes=9_000,
        ),
        "installation": families(
            licensed(
                [r for r in of(books, "installation-guide") if r.get("lang") in GUIDE_LANGUAGES],
                lambda row: "GPL-2.0-only",
            ),
            file_name,
            take=26,
            max_bytes=12_000,
        ),
        "manpages": families(
            licensed(read_corpus(corpus, "manpages"), manpage_license), file_name, take=45, max_bytes=14_000
        ),
        "changelogs": changelogs(read_corpus(corpus, "debdocs")),
        "code": [
            *families(
                licensed(of(code, "code-javascript"), lambda row: "MIT"), file_name, take=90, max_bytes=6_000
            ),
            *families(licensed(of(code, "code-c"), header_license), below_version, take=150, max_bytes=8_000),
            *families(
                licensed(of(code, "code-python"), module_license), below_version, take=60, max_bytes=14_000
            ),
        ],
        "tables": families(
            licensed(of(tables, "tables"), table_license), below_version, take=60, max_bytes=120_000
        ),
        "dictionary": dictionary(short),
        "sentences": sentences(data),
    }
    for name, rows in sources.items():
        check_ids(name, rows)
    return sources


XQUAD_LANGUAGES = ("de", "en", "es", "ru", "zh")
GUIDE_LANGUAGES = ("de", "en", "es", "fr", "ja", "pt", "ru", "zh_CN", "zh-CN")
UDHR_FIRST = (
    "eng", "deu_1996", "deu_1901", "fra", "spa", "rus", "jpn", "cmn_hans", "cmn_hant", "English", "German", "French",
    "Spanish", "Russian", "Japanese", "Chinese",
)  # fmt: skip


def read_corpus(corpus: Path, part: str) -> list[Row]:
    """All documents of the corpus files PART-NN.jsonl.zst or PART-NN.parquet, in file order, without null fields."""
    rows: list[Row] = []
    for path in sorted(corpus.glob(f"{part}-*")):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
                lines = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")  # U+2028 does not end a line
                rows += [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def licensed(rows: Iterable[Row], license_of: Callable[[Row], str | None]) -> list[Row]:
    """The rows with a clear licence, reduced to FIELDS, `license` replaced by one of ALLOWED."""
    kept = []
    for row in rows:
        name = license_of(row)
        if name is not None:
            kept.append({field: row[field] for field in FIELDS if field in row} | {"license": name})
    return kept


def families(
    rows: Sequence[Row],
    key_of: Callable[[Row], str],
    *,
    take: int,
    max_bytes: int = 1 << 30,
    at_least: int = 1,
    first: Sequence[str] = (),
) -> list[Row]:
    """The first `take` families in SHA-256 order of their keys, after those named in `first`.

    A family with a document above `max_bytes` (UTF-8) or with fewer than `at_least` documents is passed over.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key_of(row), []).append(row)
    fit = {
        key: group
        for key, group in groups.items()
        if len(group) >= at_least and max(len(row["text"].encode()) for row in group) <= max_bytes
    }
    named = [key for key in first if key in fit]
    others = sorted((key for key in fit if key not in named), key=digest)
    return [
        row
        for key in (named + others)[: take + len(named)]
        for row in sorted(fit[key], key=lambda r: r["id"])
    ]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def below_version(row: Row) -> str:
    """deb://package/version/path -> path: one page of several releases of a package."""
    return row["url"].split("/", 4)[-1]


def file_name(row: Row) -> str:
    return row["url"].rsplit("/", 1)[-1]


def page_stem(row: Row) -> str:
    return file_name(row).split(".")[0]


def python_key(row: Row) -> str:
    """A page of the Python manual: its HTML in two builds and its reST source."""
    path = row["url"].split("/html/", 1)[-1]
    return re.sub(r"^_sources/|\.rst\.txt$|\.html$", "", path)


def udhr_key(row: Row) -> str:
    """The language of a declaration: nltk://udhr/German_Deutsch-Latin1 -> German, nltk://udhr2/deu_1996.txt -> deu_1996."""
    name = file_name(row)
    return name[:-4] if name.endswith(".txt") else re.split(r"[_-]", name)[0]


def linux_license(row: Row) -> str | None:
    """The page's own SPDX line where it has one; without one, the kernel's COPYING says GPL-2.0-only."""
    found = re.search(r"SPDX-License-Identifier:\s*([^\n]*)", row["text"][:600])
    if found is None:
        return "GPL-2.0-only" if "opyright" not in row["text"] and "icense" not in row["text"] else None
    expression = found[1].strip().rstrip("*/ ").strip("()")
    first = re.split(r"\s+or\s+", expression, flags=re.IGNORECASE)[0].strip("() ")
    names = {
        "GPL-2.0": "GPL-2.0-only",
        "GPL-2.0-only": "GPL-2.0-only",
        "GPL-2.0+": "GPL-2.0-or-later",
        "GPL-2.0-or-later": "GPL-2.0-or-later",
        "GFDL-1.1-no-invariants-or-later": "GFDL-1.1-no-invariants-or-later",
    }
    return names.get(first)


def header_license(row: Row) -> str | None:
    """The SPDX line of a kernel header; PostgreSQL's headers and those without a line stay out."""
    found = re.match(
        r"/\* SPDX-License-Identifier: \(*(GPL-2\.0(?:-only|\+|-or-later)?) WITH Linux-syscall-note",
        row["text"],
    )
    if found is None:
        return None
    later = found[1] in ("GPL-2.0+", "GPL-2.0-or-later")
    return f"GPL-2.0-{'or-later' if later else 'only'} WITH Linux-syscall-note"


def module_license(row: Row) -> str | None:
    """Modules of the standard library that carry no notice of their own are under the PSF licence as a whole."""
    return None if re.search(r"copyright|licen[cs]e|all rights", row["text"], re.IGNORECASE) else "PSF-2.0"


def table_license(row: Row) -> str | None:
    return {"Unicode-DFS": "Unicode-DFS-2016", "public-domain": "Public-Domain"}.get(row["license"])


def manpage_license(row: Row) -> str | None:
    """Only pages that say GPLv3+ themselves; a translation must name the licence of the translation too."""
    text = re.sub(r"\s+", " ", row["text"])
    if "GPLv3+" not in text or "Free Documentation License" in text:
        return None
    stated = (
        "License GPLv3+: GNU GPL" in text if row["lang"] == "en" else "gnu.org/licenses/gpl-3.0.html" in text
    )
    return "GPL-3.0-or-later" if stated else None


def contents_pages(rows: Sequence[Row]) -> list[Row]:
    """Tables of contents, indexes and diagram pages: nearly all navigation, hardly a sentence."""
    pages = {
        "debian-handbook": (r"/index\.html$", "CC-BY-SA-3.0"),
        "installation-guide": (r"/index\.html$", "GPL-2.0-only"),
        "python-doc": (r"/genindex-\w+\.html$", "PSF-2.0"),
        "sqlite-doc": (r"/syntax/", "Public-Domain"),
    }

    def license_of(row: Row) -> str | None:
        if row["source"] == "postgresql-doc":
            is_contents = (
                re.match(r"(Chapter|Part|Appendix) ", row["text"]) and "\nTable of Contents\n" in row["text"]
            )
            return "PostgreSQL" if is_contents and len(row["text"]) < 2_500 else None
        pattern, name = pages.get(row["source"], (r"$^", ""))
        return name if re.search(pattern, row["url"]) else None

    return families(licensed(rows, license_of), lambda row: row["url"], take=150, max_bytes=30_000)


def speeches(rows: Sequence[Row], data: Path) -> list[Row]:
    """All inaugural addresses; of the addresses to Congress those that MMLU's history items quote, then by hash."""
    quoted = ngrams(" \n".join(item["text"] for item in mmlu_items(data, "high_school_us_history")))
    addresses = sorted(
        (row for row in rows if row["source"] == "state_union"),
        key=lambda row: (quoted.isdisjoint(ngrams(row["text"])), digest(row["id"])),
    )
    chosen = [row for row in rows if row["source"] == "inaugural"] + addresses[:16]
    return licensed(chosen, lambda row: "Public-Domain")


def changelogs(rows: Sequence[Row]) -> list[Row]:
    """Debian changelogs and news of packages whose machine-readable copyright file licenses debian/* clearly."""
    names = {
        "GPL-2": "GPL-2.0-only",
        "GPL-2+": "GPL-2.0-or-later",
        "GPL-2.0+": "GPL-2.0-or-later",
        "GPL-3": "GPL-3.0-only",
        "GPL-3+": "GPL-3.0-or-later",
        "Apache-2.0": "Apache-2.0",
        "Expat": "MIT",
        "public-domain": "Public-Domain",
    }
    packaging: dict[str, str] = {}
    for row in rows:
        if row["source"] == "deb-copyright" and row["text"].lstrip().startswith("Format:"):
            for stanza in re.split(r"\n\s*\n", row["text"]):
                files = re.search(r"^Files:((?:.|\n[ \t])*)", stanza, re.MULTILINE)
                name = re.search(r"^License:\s*(.+)$", stanza, re.MULTILINE)
                if files and name and "debian/*" in files[1].split() and name[1].strip() in names:
                    packaging[row["url"].split("/")[2]] = names[name[1].strip()]

    def license_of(row: Row) -> str | None:
        debian = file_name(row) in ("changelog.Debian.gz", "NEWS.Debian.gz", "README.Debian")
        return packaging.get(row["url"].split("/")[2]) if debian else None

    return families(licensed(rows, license_of), lambda row: row["url"], take=130, max_bytes=20_000)


def plays(rows: Sequence[Row]) -> list[Row]:
    """The scenes of one play; a plain-text file has no id of its own, so the id is the one a reader gives it."""
    scenes = licensed([row for row in rows if "/r_and_j.xml" in row["url"]], lambda row: "Public-Domain")
    return [row | {"id": f"{PLAY}-{int(row['url'].rsplit('#', 1)[-1]):02d}.txt#0"} for row in scenes]


PLAY = "romeo-and-juliet"


def dictionary(rows: Sequence[Row]) -> list[Row]:
    """Headwords that FOLDOC and the Jargon File share (FOLDOC took over many), then entries of all four."""
    names = {
        "dict-devil": "Public-Domain",
        "dict-jargon": "Public-Domain",
        "dict-foldoc": "GFDL-1.1-or-later",
        "dict-gcide": "GPL-3.0-or-later",
    }
    entries = [row for row in rows if row["source"] in names]
    license_of = {row["id"]: names[row["source"]] for row in entries}

    def pick(chosen: Sequence[Row], *, take: int, at_least: int = 1) -> list[Row]:
        return families(
            licensed(chosen, lambda row: license_of[row["id"]]),
            lambda row: file_name(row).lower(),
            take=take,
            max_bytes=3_000,
            at_least=at_least,
        )

    shared = pick([r for r in entries if r["source"] in ("dict-foldoc", "dict-jargon")], take=220, at_least=2)
    seen = {row["id"] for row in shared}
    rest = [
        row
        for name, count in (("dict-devil", 180), ("dict-gcide", 90), ("dict-foldoc", 60), ("dict-jargon", 60))
        for row in pick([r for r in entries if r["source"] == name and r["id"] not in seen], take=count)
    ]
    return list({row["id"]: row for row in shared + rest}.values())


def sentences(data: Path) -> list[Row]:
    """Tatoeba sentences and their English sides; an English side that two languages share is a natural exact copy."""
    chosen = tatoeba(data, ("cmn", "deu", "fra", "jpn", "rus", "spa"), skip=250, take=60)
    rows = []
    for row in chosen:
        for side, lang in (("text", row["lang"]), ("english", "eng")):
            key = f"tatoeba/{row['lang']}/{row['n']}/{side}"
            rows.append(
                {
                    "id": digest(key)[:16],
                    "text": row[side],
                    "url": f"github://facebookresearch/LASER/data/tatoeba/v1#{row['lang']}-eng/{row['n']}/{side}",
                    "lang": lang,
                    "license": "CC-BY-2.0-FR",
                    "form": "sentence",
                }
            )
    return rows


def tatoeba(data: Path, langs: Sequence[str], *, skip: int, take: int) -> list[Row]:
    """`take` sentence pairs of each language in SHA-256 order, after the first `skip`: tasks and documents differ."""
    rows = read_jsonl_gz(data / "lang" / "tatoeba.jsonl.gz")
    chosen: list[Row] = []
    for lang in langs:
        pairs = sorted(
            (r for r in rows if r["lang"] == lang), key=lambda r: digest(f"tatoeba/{lang}/{r['n']}")
        )
        chosen += pairs[skip : skip + take]
    return chosen


def check_ids(name: str, rows: Sequence[Row]) -> None:
    if len({row["id"] for row in rows}) != len(rows):
        sys.exit(f"build.py: source {name} repeats an id")
    strange = {row["license"] for row in rows} - set(ALLOWED)
    if strange or not rows:
        sys.exit(
            f"build.py: source {name} has {len(rows)} rows and licences outside ALLOWED: {sorted(strange)}"
        )


# --- documents: how they are written -----------------------------------------------------------------------------------


DOCUMENT_FILES = {
    "speeches": "speeches.parquet",
    "plays": "plays/",
    "genesis": "genesis.jsonl.gz",
    "udhr": "udhr.arrow",
    "wiki": "wiki.jsonl.zst",
    "linux": "linux.jsonl.zst",
    "postgresql": "postgresql/",
    "python": "python.jsonl.zst",
    "sqlite": "sqlite.jsonl",
    "git": "git.jsonl.gz",
    "contents": "contents.parquet",
    "handbook": "handbook.jsonl.zst",
    "aptitude": "aptitude.jsonl.zst",
    "installation": "installation.parquet",
    "manpages": "manpages.jsonl.zst",
    "changelogs": "changelogs.jsonl.gz",
    "code": "code.jsonl.zst",
    "tables": "tables.parquet",
    "dictionary": "dictionary.arrow",
    "sentences": "sentences.csv",
}

ORIGINS = {
    "speeches": "nltk/nltk_data@5db857e6f7df: corpora inaugural and state_union (addresses of US presidents)",
    "plays": "nltk/nltk_data@5db857e6f7df: corpus shakespeare, Romeo and Juliet, one scene a file",
    "genesis": "nltk/nltk_data@5db857e6f7df: corpus genesis (King James, World English Bible, Segond 1910, Swedish 1917)",
    "udhr": "nltk/nltk_data@5db857e6f7df: corpora udhr and udhr2 (Universal Declaration of Human Rights)",
    "wiki": "google-deepmind/xquad@7d30520c7175: paragraphs (English Wikipedia and professional translations)",
    "linux": "Debian linux-doc-6.1 6.1.170-3 and 6.1.192-2",
    "postgresql": "Debian postgresql-doc-15 15.18-0+deb12u1 and 15.20-0+deb12u1",
    "python": "Debian python3.11-doc 3.11.2-6+deb12u8 and 3.11.2-6+deb12u9",
    "sqlite": "Debian sqlite3-doc 3.40.1-2+deb12u2",
    "git": "Debian git-doc 1:2.39.5-0+deb12u3 (HTML and text of each page)",
    "contents": "the packages of handbook, installation, postgresql, python and sqlite: tables of contents and indexes",
    "handbook": "Debian debian-handbook 11.20220922 (26 languages, dual CC-BY-SA-3.0 or GPL-2.0+; used under CC-BY-SA-3.0)",
    "aptitude": "Debian aptitude-doc-{cs,en,es,fi,fr,it,ja,nl,ru} 0.8.13-5",
    "installation": "Debian installation-guide-amd64 20230508+deb12u1",
    "manpages": "Debian manpages-{cs,da,de,es,fi,fr,hu,nl,pl,pt-br,ro,ru,sv,uk} 4.18.1-1 and GNU pages of Debian 12 (`man:`): those that state GPLv3+ themselves",
    "changelogs": "Debian 12 packages (each url names package and version): changelog.Debian, NEWS.Debian, README.Debian",
    "code": "Debian node-lodash 4.17.21, linux-libc-dev 6.1.192-2, libpython3.11 3.11.2-6+deb12u9",
    "tables": "Debian unicode-data 15.0.0-1 and tzdata 2026f-0+deb12u1",
    "dictionary": "Debian dict-devil 1.0-13.1, dict-jargon 4.4.7-3.1, dict-foldoc 20230119-1, dict-gcide 0.48.5+nmu2",
    "sentences": "Tatoeba, from facebookresearch/LASER@74bc6ae7ffb7 data/tatoeba/v1",
}


def write_documents(sources: Mapping[str, Sequence[Row]]) -> list[Listed]:
    listed = []
    for name, rows in sources.items():
        target = DOCUMENT_FILES[name]
        if name == "plays":
            (HERE / "documents" / "plays").mkdir()
            for row in rows:
                write_bytes(f"documents/plays/{row['id'].removesuffix('#0')}", row["text"].encode())
            listed.append(listed_as("documents/plays/*.txt", rows, ORIGINS[name]))
        elif name == "postgresql":  # one file a release: a source may be a folder of shards
            (HERE / "documents" / "postgresql").mkdir()
            for release in ("15.18", "15.20"):
                part = [row for row in rows if f"/{release}-" in row["url"]]
                write_rows(f"documents/postgresql/{release}.jsonl.gz", part)
                listed.append(listed_as(f"documents/postgresql/{release}.jsonl.gz", part, ORIGINS[name]))
        else:
            write_rows(f"documents/{target}", rows)
            listed.append(listed_as(f"documents/{target}", rows, ORIGINS[name]))
    return listed


def listed_as(file: str, rows: Sequence[Row], origin: str) -> Listed:
    return Listed(file, len(rows), tuple(sorted({str(row["license"]) for row in rows})), origin)


def write_rows(file: str, rows: Sequence[Row]) -> None:
    """Write rows in the format that the file's name tells; JSON keeps non-ASCII characters (U+2028 too) as they are."""
    path = HERE / file
    if ".jsonl" in path.name:
        raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        if path.suffix == ".gz":
            raw = gzip_bytes(raw)
        elif path.suffix == ".zst":
            raw = zstandard.ZstdCompressor(level=19).compress(raw)
        write_bytes(file, raw)
        return
    columns = [field for field in FIELDS if any(field in row for row in rows)]
    table = pa.table({field: pa.array([row.get(field) for row in rows], pa.string()) for field in columns})
    if path.suffix == ".parquet":
        pq.write_table(
            table, path, compression="zstd", compression_level=19, row_group_size=100, data_page_size=1 << 24,
            use_dictionary=["license", "lang", "form"],
        )  # fmt: skip
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    elif file == "documents/dictionary.arrow":  # the stream format, as load_from_disk has it
        with pa.ipc.new_stream(
            path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as writer:
            writer.write_table(table, max_chunksize=500)
    else:  # the file format ("Feather version 2")
        with pa.ipc.new_file(
            path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as writer:
            writer.write_table(table, max_chunksize=50)


def gzip_bytes(raw: bytes) -> bytes:
    return gzip.compress(raw, compresslevel=9, mtime=0)


def write_bytes(file: str, raw: bytes) -> None:
    path = HERE / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


# --- tasks -------------------------------------------------------------------------------------------------------------


T0_SETS = {
    "adversarial_qa_dbert": ("CC-BY-SA-3.0", 500, "adversarial QA, D(BERT): questions on Wikipedia passages"),
    "common_gen": ("MIT", 900, "CommonGen"),
    "commonsense_qa": ("MIT", 800, "CommonsenseQA, training split"),
    "quartz": ("CC-BY-4.0", 800, "QuaRTz"),
}


def build_tasks(data: Path) -> tuple[dict[str, list[Row]], list[Listed]]:
    """The four raw and four rendered sets; returns the rows of each (for truth/) and their lines of the table."""
    listed, tasks = [], {}

    gsm8k = [
        {"id": f"gsm8k-train-{i}", **row, "license": "MIT"}
        for i, row in enumerate(read_jsonl_gz(data / "tasks" / "gsm8k" / "train.jsonl.gz"))
    ]
    tasks["gsm8k"] = by_hash(gsm8k, 1000)
    write_rows("tasks/gsm8k.jsonl.gz", tasks["gsm8k"])
    listed.append(
        listed_as("tasks/gsm8k.jsonl.gz", tasks["gsm8k"], "openai/grade-school-math@3101c7d50724: train")
    )

    for name, license_name in (("aqua", "Apache-2.0"), ("qasc", "CC-BY-4.0")):
        path = data / "tasks" / "cot" / f"{name}_train.tsv.gz"
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
        rows = [{"id": f"{name}-{i}", "line": line} for i, line in enumerate(lines) if line]
        tasks[name] = by_hash(rows, 1000)
        write_bytes(
            f"tasks/{name}_cot.tsv.gz", gzip_bytes("".join(r["line"] + "\n" for r in tasks[name]).encode())
        )
        listed.append(
            Listed(
                f"tasks/{name}_cot.tsv.gz",
                len(tasks[name]),
                (license_name,),
                f"google-research/FLAN@e9e4ec6e2701 flan/v2/cot_data/{name}_train.tsv (FLAN itself Apache-2.0)",
            )
        )

    tasks["tatoeba"] = [
        {"id": f"tatoeba-{row['lang']}-{row['n']}", **row, "license": "CC-BY-2.0-FR"}
        for row in tatoeba(data, ("deu", "fra", "rus", "spa"), skip=0, take=250)
    ]
    write_rows("tasks/tatoeba.jsonl.gz", tasks["tatoeba"])
    listed.append(listed_as("tasks/tatoeba.jsonl.gz", tasks["tatoeba"], ORIGINS["sentences"]))

    with (data / "tasks" / "t0" / "index.csv").open(encoding="utf-8", newline="") as file:
        templates = list(csv.DictReader(file))
    for name, (license_name, take, what) in T0_SETS.items():
        rows = [
            {
                "id": f"{entry['template']}-{i}",
                "template": entry["prompt_name"],
                **row,
                "license": license_name,
            }
            for entry in templates
            if entry["dataset"] == name
            for i, row in enumerate(read_jsonl_gz(data / "tasks" / "t0" / f"{entry['template']}.jsonl.gz"))
        ]
        tasks[name] = by_hash(rows, take)
        write_rows(f"tasks/t0_{name}.jsonl.gz", tasks[name])
        origin = f"{what}; prompts of P3 (Apache-2.0) from yizhongw/self-instruct@0b26ccaa4159 data/finetuning/t0_train_50k"
        listed.append(listed_as(f"tasks/t0_{name}.jsonl.gz", tasks[name], origin))
    return tasks, listed


def by_hash(rows: Sequence[Row], take: int) -> list[Row]:
    """`take` rows chosen by the SHA-256 of their ids, in their first order."""
    chosen = {row["id"] for row in sorted(rows, key=lambda row: digest(row["id"]))[:take]}
    return [row for row in rows if row["id"] in chosen]


def read_jsonl_gz(path: Path) -> list[Row]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]


# --- evaluation items ----------------------------------------------------------------------------------------------------


def build_evaluation(
    data: Path, spoken: Sequence[Row], aqua: Sequence[Row]
) -> tuple[dict[str, list[Row]], list[Listed]]:
    """Items of seven sets: id, dataset, lang, question, answer, license and, where the set has them, context, choices, subject."""
    items: dict[str, list[Row]] = {
        "gsm8k": sample(gsm8k_items(data), 200),
        "aqua": sample(aqua_items(data), 120),
        "math_qa": sample(math_qa_items(data), 250, against=[row["line"] for row in aqua]),
        "commonsense_qa": sample(commonsense_items(data), 200),
        "mmlu": [
            *sample(
                list(mmlu_items(data, "high_school_us_history")), 60, against=[row["text"] for row in spoken]
            ),
            *sample([item for name in MMLU_SUBJECTS for item in mmlu_items(data, name)], 240),
        ],
        "bbh": sample(bbh_items(data), 250),
        "xquad": xquad_items(data, contexts=40),
    }
    origins = {
        "gsm8k": "openai/grade-school-math@3101c7d50724: test",
        "aqua": "AQuA-RAT test, from mosaicml/llm-foundry@8c8dd48f7216 scripts/eval/local_data",
        "math_qa": "MathQA test, from mosaicml/llm-foundry@8c8dd48f7216 scripts/eval/local_data",
        "commonsense_qa": "CommonsenseQA validation, from mosaicml/llm-foundry@8c8dd48f7216 scripts/eval/local_data",
        "mmlu": "hendrycks/test@785eba57b455: test",
        "bbh": "suzgunmirac/BIG-Bench-Hard@9ee07bd481fe",
        "xquad": "google-deepmind/xquad@7d30520c7175: 40 paragraphs of documents/wiki.jsonl.zst, one question each, 5 languages",
    }
    listed = []
    for name, rows in items.items():
        rows = [{key: value for key, value in row.items() if key != "text"} for row in rows]
        write_rows(f"eval/{name}.jsonl.gz", rows)
        listed.append(listed_as(f"eval/{name}.jsonl.gz", rows, origins[name]))
    return items, listed


MMLU_SUBJECTS = (
    "abstract_algebra", "college_computer_science", "computer_security", "high_school_geography",
    "high_school_government_and_politics", "high_school_physics", "international_law", "logical_fallacies",
    "machine_learning", "philosophy", "us_foreign_policy", "world_religions",
)  # fmt: skip


def item(
    item_id: str,
    dataset: str,
    license_name: str,
    question: str,
    answer: str,
    *,
    lang: str = "en",
    context: str | None = None,
    choices: Sequence[str] | None = None,
    subject: str | None = None,
) -> Row:
    """One evaluation item; `text` (all its words, for choosing and truth/) is not written out."""
    row: Row = {"id": item_id, "dataset": dataset, "lang": lang, "question": question}
    row |= {} if context is None else {"context": context}
    row |= {} if choices is None else {"choices": list(choices)}
    row |= {"answer": answer} | ({} if subject is None else {"subject": subject}) | {"license": license_name}
    row["text"] = f"{question}\n{context}" if context is not None else question
    return row


def sample(items: Sequence[Row], take: int, *, against: Sequence[str] = ()) -> list[Row]:
    """`take` items by the SHA-256 of their ids; items that share a 13-gram with `against` come first."""
    used = set().union(*map(ngrams, against)) if against else set()
    order = sorted(items, key=lambda row: (used.isdisjoint(ngrams(row["text"])), digest(row["id"])))
    chosen = {row["id"] for row in order[:take]}
    return [row for row in items if row["id"] in chosen]


def gsm8k_items(data: Path) -> list[Row]:
    lines = (data / "eval" / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [item(f"gsm8k-test-{i}", "gsm8k", "MIT", r["question"], r["answer"]) for i, r in enumerate(rows)]


def aqua_items(data: Path) -> list[Row]:
    rows = read_jsonl_gz(data / "eval" / "icl" / "symbolic_problem_solving" / "aqua.jsonl.gz")
    return [
        item(f"aqua-test-{i}", "aqua", "Apache-2.0", r["context"], r["answer"]) for i, r in enumerate(rows)
    ]


def math_qa_items(data: Path) -> list[Row]:
    rows = read_jsonl_gz(data / "eval" / "icl" / "symbolic_problem_solving" / "math_qa.jsonl.gz")
    items = [multiple_choice(f"math_qa-test-{i}", "math_qa", "Apache-2.0", row) for i, row in enumerate(rows)]
    return [row for row in items if all(row["choices"])]  # some upstream options are empty


def commonsense_items(data: Path) -> list[Row]:
    rows = read_jsonl_gz(data / "eval" / "icl" / "commonsense_reasoning" / "commonsense_qa.jsonl.gz")
    return [
        multiple_choice(f"commonsense_qa-validation-{i}", "commonsense_qa", "MIT", r)
        for i, r in enumerate(rows)
    ]


def multiple_choice(item_id: str, dataset: str, license_name: str, row: Row) -> Row:
    """'Question: ...\\nChoices:\\nA. ...\\nAnswer:' with the gold index -> question, choices and the right choice."""
    body = re.sub(r"^Question: |\nChoices:(?=\n)|\nAnswer: ?$", "", row["query"])
    question, *choices = re.split(r"\n[A-H]\. ", body)
    return item(item_id, dataset, license_name, question, choices[row["gold"]], choices=choices)


def mmlu_items(data: Path, subject: str) -> Iterator[Row]:
    path = data / "eval" / "mmlu" / "test" / f"{subject}_test.csv"
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for i, (question, *choices, letter) in enumerate(csv.reader(file)):
            answer = choices["ABCD".index(letter)]
            yield item(
                f"mmlu-{subject}-{i}", "mmlu", "MIT", question, answer, choices=choices, subject=subject
            )


def bbh_items(data: Path) -> list[Row]:
    return [
        item(f"bbh-{path.stem}-{i}", "bbh", "MIT", row["input"], row["target"], subject=path.stem)
        for path in sorted((data / "eval" / "bbh" / "tasks").glob("*.json"))
        for i, row in enumerate(json.loads(path.read_text(encoding="utf-8"))["examples"])
    ]


def xquad_items(data: Path, *, contexts: int) -> list[Row]:
    """The first question of `contexts` paragraphs, in every language of XQUAD_LANGUAGES."""
    rows: dict[str, list[Row]] = {}
    for lang in XQUAD_LANGUAGES:
        articles = json.loads(
            gzip.decompress((data / "eval" / "xquad" / f"xquad.{lang}.json.gz").read_bytes())
        )["data"]
        for paragraph in (p for article in articles for p in article["paragraphs"]):
            asked = paragraph["qas"][0]
            answer, context = asked["answers"][0]["text"], paragraph["context"]
            name = f"xquad-{lang}-{asked['id']}"
            found = item(name, "xquad", "CC-BY-SA-4.0", asked["question"], answer, lang=lang, context=context)
            rows.setdefault(asked["id"], []).append(found)
    chosen = sorted(rows, key=digest)[:contexts]
    return sorted((row for key in chosen for row in rows[key]), key=lambda row: row["id"])


def ngrams(text: str, length: int = 13) -> set[tuple[str, ...]]:
    """The distinct runs of `length` lower-cased \\w+ tokens of a text."""
    tokens = re.findall(r"\w+", text.lower())
    return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}


# --- truth ---------------------------------------------------------------------------------------------------------------


def build_truth(
    sources: Mapping[str, Sequence[Row]],
    tasks: Mapping[str, Sequence[Row]],
    items: Mapping[str, Sequence[Row]],
) -> list[Listed]:
    """Exact answers for tests: near-duplicate pairs of all documents, and items that documents or tasks contain."""
    pairs = [
        {"source_a": a[0], "id_a": a[1], "source_b": b[0], "id_b": b[1], "jaccard": f"{similarity:.6f}"}
        for a, b, similarity in near_duplicates(sources)
    ]
    write_csv_gz("truth/near_duplicate_pairs.csv.gz", pairs)
    evaluation: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for name, rows in items.items():
        for row in rows:
            for gram in ngrams(row["text"]):
                evaluation.setdefault(gram, set()).add((name, row["id"]))
    overlaps = []
    texts = [("document", name, row["id"], row["text"]) for name, rows in sources.items() for row in rows]
    texts += [("task", name, row["id"], task_text(row)) for name, rows in tasks.items() for row in rows]
    for kind, name, row_id, text in texts:
        counts: dict[tuple[str, str], int] = {}
        for gram in ngrams(text):
            for hit in evaluation.get(gram, ()):
                counts[hit] = counts.get(hit, 0) + 1
        for (dataset, item_id), count in sorted(counts.items()):
            overlaps.append(
                {
                    "kind": kind,
                    "source": name,
                    "id": row_id,
                    "eval": dataset,
                    "item": item_id,
                    "shared_13grams": count,
                }
            )
    write_csv_gz("truth/contamination.csv.gz", overlaps)
    return [
        Listed("truth/near_duplicate_pairs.csv.gz", len(pairs), ("CC0-1.0",), "computed by build.py"),
        Listed("truth/contamination.csv.gz", len(overlaps), ("CC0-1.0",), "computed by build.py"),
    ]


def task_text(row: Row) -> str:
    """What a task row asks, without its answer: prompt, question, or the first field of a TSV line."""
    return row.get("prompt") or row.get("question") or row.get("line", "").split("\t")[0].replace("\\n", "\n")


def near_duplicates(
    sources: Mapping[str, Sequence[Row]], threshold: float = 0.5
) -> list[tuple[tuple[str, str], tuple[str, str], float]]:
    """All pairs of documents whose sets of word 5-grams have a Jaccard similarity of at least `threshold`.

    Tokens are re.findall(r"\\w+", text.lower()); a document of 1 to 4 tokens has one shingle, all its tokens; one of no
    tokens is in no pair. Counted through an inverted index of exact shingles: no hashing, no candidates.
    """
    keys = [(name, row["id"]) for name, rows in sources.items() for row in rows]
    vocabulary: dict[str, int] = {}
    windows, owners = [], []
    for i, text in enumerate(row["text"] for rows in sources.values() for row in rows):
        ids = np.array(
            [vocabulary.setdefault(t, len(vocabulary) + 1) for t in re.findall(r"\w+", text.lower())],
            np.int32,
        )
        if len(ids) == 0:
            continue
        padded = ids if len(ids) >= 5 else np.pad(ids, (0, 5 - len(ids)))  # 0 is no token
        shingles = np.unique(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=0)
        windows.append(shingles)
        owners.append(np.full(len(shingles), i, np.int64))
    owner = np.concatenate(owners)
    shingle = np.unique(np.concatenate(windows), axis=0, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(owner, minlength=len(keys))
    order = np.argsort(shingle, kind="stable")
    posting, starts = owner[order], np.searchsorted(shingle[order], np.arange(shingle.max() + 2))
    first = np.searchsorted(owner, np.arange(len(keys) + 1))
    found = []
    for i in range(len(keys)):
        mine = shingle[first[i] : first[i + 1]]
        if len(mine) == 0:
            continue
        others = np.concatenate([posting[starts[s] : starts[s + 1]] for s in mine])
        common = np.bincount(others, minlength=len(keys))
        common[: i + 1] = 0
        similarity = common / (sizes[i] + sizes - common)
        found += [(keys[i], keys[j], float(similarity[j])) for j in np.flatnonzero(similarity >= threshold)]
    return found


def write_csv_gz(file: str, rows: Sequence[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(file, gzip_bytes(text.getvalue().encode()))


# --- broken files --------------------------------------------------------------------------------------------------------


def build_bad() -> None:
    """Small files that are wrong in one way each; bad/README.md says how many records of each are good."""
    good = [
        json.dumps({"id": f"r{i}", "text": f"This is record number {i} of a small broken file."})
        for i in range(6)
    ]

    def lines(*texts: str, end: str = "\n") -> bytes:
        return "".join(text + end for text in texts).encode()

    write_bytes(
        "bad/malformed.jsonl",
        lines(good[0], good[1], '{"id": "r2", "text": "no closing brace', good[3], good[4]),
    )
    write_bytes(
        "bad/invalid_utf8.jsonl",
        lines(good[0]) + b'{"id": "r1", "text": "caf\xe9 au lait"}\n' + lines(good[2], good[3]),
    )
    write_bytes(
        "bad/missing_text.jsonl",
        lines(
            good[0],
            '{"id": "r1"}',
            '{"id": "r2", "text": null}',
            '{"id": "r3", "text": 17}',
            '{"id": "r4", "text": ["a", "list"]}',
            '{"id": "r5", "text": ""}',
        ),
    )
    write_bytes("bad/not_an_object.jsonl", lines(good[0], '["r1", "a list"]', '"a string"', "null", good[4]))
    write_bytes("bad/empty.jsonl", b"")
    write_bytes(
        "bad/repeated_id.jsonl", lines(good[0], good[1], good[0].replace("number 0", "number zero"), good[3])
    )
    write_bytes("bad/ragged.csv", b"id,text\nr0,two fields\nr1,three,fields\nr2\nr3,two again\n")
    write_bytes(
        "bad/surrogate.jsonl",
        lines(good[0], '{"id": "r1", "text": "half a pair: \\ud83d and no more"}', good[2]),
    )
    write_bytes(
        "bad/u2028.jsonl",
        lines(
            '{"id": "r0", "text": "one\u2028record"}',
            '{"id": "r1", "text": "another\u2029one\u0085here"}',
            good[2],
        ),
    )
    write_bytes("bad/crlf.jsonl", lines(*good[:3], end="\r\n"))
    write_bytes("bad/blank_lines.jsonl", b"\n" + lines(good[0], "", "   ", good[1], "") + good[2].encode())
    write_bytes("bad/bom.jsonl", b"\xef\xbb\xbf" + lines(*good[:3]))
    write_bytes("bad/not_gzip.jsonl.gz", lines(*good[:3]))
    rendered = [
        ("Say hello.\n", "Hello<|endoftext|>"),
        ("Say nothing.\n", "<|endoftext|>"),
        ("", "No prompt<|endoftext|>"),
    ]
    rendered.append(("Say nothing at all.\n", ""))
    rows = [
        {"id": f"r{i}", "prompt": prompt, "completion": target} for i, (prompt, target) in enumerate(rendered)
    ]
    write_rows("bad/empty_target.jsonl", rows)

    noisy = [
        json.dumps({"id": f"r{i}", "text": " ".join(digest(f"{i}/{j}") for j in range(40))}) + "\n"
        for i in range(8)
    ]
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [deflate.compress(line.encode()) + deflate.flush(zlib.Z_SYNC_FLUSH) for line in noisy]
    whole = b"".join(parts) + deflate.flush()
    write_bytes("bad/truncated.jsonl.gz", whole[: sum(map(len, parts[:5])) + len(parts[5]) // 2])
    zstd = zstandard.ZstdCompressor(level=9).compressobj()
    parts = [zstd.compress(line.encode()) + zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for line in noisy]
    whole = b"".join(parts) + zstd.flush()
    write_bytes("bad/truncated.jsonl.zst", whole[: sum(map(len, parts[:5])) + len(parts[5]) // 2])

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["r0", "r1"], "text": ["one", "two"]}), sink)
    raw = sink.getvalue().to_pybytes()
    write_bytes("bad/truncated.parquet", raw[: len(raw) // 2])


# --- the table of SOURCES.md ---------------------------------------------------------------------------------------------


def write_table(listed: Sequence[Listed]) -> None:
    """Replace what stands between the two markers of SOURCES.md by the table of this build."""
    lines = ["| file | rows | licence | origin |", "| --- | ---: | --- | --- |"]
    lines += [
        f"| `{line.file}` | {line.rows} | {'; '.join(line.licenses)} | {line.origin} |" for line in listed
    ]
    path = HERE / "SOURCES.md"
    before, rest = path.read_text(encoding="utf-8").split("<!-- table -->\n")
    after = rest.split("<!-- end of table -->\n")[1]
    table = "\n".join(lines)
    path.write_text(f"{before}<!-- table -->\n{table}\n<!-- end of table -->\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
