"""Configurations: every mistake named at once, YAML 1.2 and nothing more, every default visible."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.__main__ import main
from curate.config import (
    MAX_CONFIG_BYTES,
    Count,
    Size,
    from_mapping,
    load_config,
    parse_yaml,
    show_config,
    to_mapping,
)
from curate.settings import (
    CurateConfig,
    Decontaminate,
    Dedup,
    Examples,
    Ingest,
    LanguagePolicy,
    Measure,
    MinHash,
    PolicySettings,
    Quality,
    QualityPolicy,
    SourcePolicy,
    faults_across,
)
from curate.sources import Source
from filters.errors import ConfigError
from filters.normalization import Normalize

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "curate").glob("*.yaml"))

FIVE_MISTAKES = """\
sede: 3
sources:
  web: {path: data/*.jsonl, txt: body}
ingest: {max_quarantine_share: 2}
measure: {signals: [gophr]}
dedup: {minhash: {ngam: 5}}
"""
FIVE_FAULTS = (
    "bad.yaml: $.sede: no such setting; did you mean 'seed'? "
    "Allowed: sources, seed, ingest, normalize, measure, dedup, decontaminate, policy, output.",
    "bad.yaml: $.sources.web.txt: no such setting; did you mean 'text'? "
    "Allowed: path, text, id, meta, priority, format, split.",
    "bad.yaml: $.ingest: max_quarantine_share: found 2.0; allowed: 0 to 1.",
    "bad.yaml: $.measure.signals[0]: found 'gophr' (text); did you mean 'gopher'? "
    "Allowed: 'gopher', 'gopher_repetition'.",
    "bad.yaml: $.dedup.minhash.ngam: no such setting; did you mean 'ngram'? "
    "Allowed: threshold, ngram, recall, permutations, similarity, near_miss, hash_family.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    tokens: Count = 0
    shard: Size = 0
    share: float = 0.5
    note: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One field for each kind of annotation that the loader knows."""

    name: str
    kind: Literal["a", "b"] = "a"
    size: int = 1
    is_on: bool = False
    budgets: dict[str, Budget] = dataclasses.field(default_factory=dict)
    steps: tuple[int, ...] = ()
    where: str | tuple[str, ...] = ""
    nested: Budget | None = None
    either: Budget | Examples | None = None
    shots: dict[int, float] = dataclasses.field(default_factory=dict)


def faults_of(cls: type, value: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        from_mapping(cls, value)
    return caught.value.faults


# -- mistakes --------------------------------------------------------------------------------------------------


def test_five_mistakes_in_one_file_are_reported_together_with_place_and_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(FIVE_MISTAKES)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "bad.yaml", CurateConfig)
    assert sorted(caught.value.faults) == sorted(FIVE_FAULTS)
    assert str(caught.value).startswith("5 mistakes in the configuration:\n  bad.yaml: $.sede: ")


def test_the_command_line_reports_the_same_five_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(FIVE_MISTAKES)
    assert main(["run", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, *lines = said.err.splitlines()
    assert first.startswith("error: ")
    assert set(FIVE_FAULTS) <= {line.strip() for line in lines}
    assert not (tmp_path / "out").exists()


def test_mistakes_of_every_kind_are_reported_in_one_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name, a value out of range, a file that is not there, a rule and a source that do not exist."""
    (tmp_path / "real.jsonl").write_text('{"text": "one two"}\n')
    (tmp_path / "bad.yaml").write_text(
        f"""
        sources:
          a: {{path: {tmp_path}/real.jsonl, txt: body}}
          b: {{path: {tmp_path}/reel.jsonl}}
        dedup: {{minhash: {{threshold: 1.8}}}}
        decontaminate: {{against: {{e: {{path: {tmp_path}/rael.jsonl}}}}}}
        policy: {{set: {{gopher.word_cnt.min: 3}}, sources: {{aa: {{use: []}}}}}}
        """
    )
    assert main(["run", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")]) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "error: 6 mistakes in the configuration:"
    begins = [
        "bad.yaml: $.sources.a.txt: no such setting; did you mean 'text'?",
        "bad.yaml: $.dedup.minhash: threshold: found 1.8; allowed: above 0",
        "bad.yaml: $.policy.sources.aa: no source is called 'aa'",
        "bad.yaml: $.policy.set.gopher.word_cnt.min: no such rule; did you mean 'gopher.word_count.min'?",
        f"bad.yaml: $.sources.b.path: '{tmp_path}/reel.jsonl' matches no file; did you mean 'real.jsonl'?",
        f"bad.yaml: $.decontaminate.against.e.path: '{tmp_path}/rael.jsonl' matches no file; did you mean 'real.jsonl'?",
    ]
    for line, begin in zip(lines, begins, strict=True):
        assert line.strip().startswith(begin)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("sources: {}")
    with pytest.raises(ConfigError, match=r"dmeo\.yaml: no such file; did you mean '.*/demo\.yaml'\?$"):
        load_config(tmp_path / "dmeo.yaml", CurateConfig)
    with pytest.raises(ConfigError, match=r"zzz\.yaml: no such file\. Give the path of a YAML file\.$"):
        load_config(tmp_path / "nowhere" / "zzz.yaml", CurateConfig)


def test_a_file_that_is_not_utf8_or_far_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"seed: 1 # caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: byte 13 is not UTF-8"):
        load_config(tmp_path / "latin.yaml", CurateConfig)
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match=r"large\.yaml: larger than 4 MiB"):
        load_config(tmp_path / "large.yaml", CurateConfig)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "$: found nothing; allowed: a mapping with name, kind, size,"),
        ([], "$: found [] (a list); allowed: a mapping with name,"),
        ({}, "$.name: missing; required: text."),
        ({"name": 3}, "$.name: found 3 (a whole number); allowed: text."),
        ({"name": True}, "$.name: found True (true/false); allowed: text."),
        ({"name": "x", "kind": "c"}, "$.kind: found 'c' (text). Allowed: 'a', 'b'."),
        ({"name": "x", "size": True}, "$.size: found True (true/false); allowed: a whole number."),
        ({"name": "x", "size": 1.0}, "$.size: found 1.0 (a number); allowed: a whole number."),
        ({"name": "x", "is_on": "no"}, "$.is_on: found 'no' (text); allowed: true or false."),
        ({"name": "x", "is_on": 1}, "$.is_on: found 1 (a whole number); allowed: true or false."),
        ({"name": "x", "steps": 1}, "$.steps: found 1 (a whole number); allowed: a list of a whole number."),
        ({"name": "x", "steps": [1, "b"]}, "$.steps[1]: found 'b' (text); allowed: a whole number."),
        ({"name": "x", "where": 1}, "$.where: found 1 (a whole number); allowed: text or a list of text."),
        ({"name": "x", "where": ["a", 1]}, "$.where[1]: found 1 (a whole number); allowed: text."),
        ({"name": "x", "budgets": {"a": {"tokns": 1}}}, "$.budgets.a.tokns: no such setting; did you mean 'tokens'?"),
        ({"name": "x", "budgets": {3: {}}}, "$.budgets: the name 3 (a whole number) is not allowed here; put it in quotes."),
        ({"name": "x", "shots": {"a": 1}}, "$.shots: the name 'a' (text) is not allowed here; write a whole number."),
        ({"name": "x", "nested": 5}, "$.nested: found 5 (a whole number); allowed: a mapping with tokens, shard, share, note or nothing (null)."),
        ({"name": "x", "nested": {"share": "a"}}, "$.nested.share: found 'a' (text); allowed: a finite number."),
        ({"name": "x", "either": {"sourcs": ["a"], "sample": 2}}, "$.either.sourcs: no such setting; did you mean 'sources'?"),
        ({"name": "x", "nested": {"tokens": -1}}, "$.nested.tokens: found -1 (a whole number); allowed: a count such as 30000, 30k or 20M."),
        ({"name": "x", "nested": {"tokens": "3.0005k"}}, "$.nested.tokens: found '3.0005k' (text); allowed: a count"),
        ({"name": "x", "nested": {"shard": "64 MX"}}, "$.nested.shard: found '64 MX' (text); allowed: a size such as 64MB or 1GiB."),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_with_its_place_and_what_is_allowed(value: Any, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults_of(Shape, value)), faults_of(Shape, value)


def test_every_element_that_is_wrong_is_a_fault_of_its_own() -> None:
    faults = faults_of(Shape, {"steps": [1, "a", None], "budgets": {"x": {"share": []}, "y": {"note": 5}}})
    places = [fault.split(": ")[0] for fault in faults]
    assert places == ["$.name", "$.budgets.x.share", "$.budgets.y.note", "$.steps[1]", "$.steps[2]"]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 10**400])
def test_a_number_that_no_float_holds_is_refused(number: float) -> None:
    assert faults_of(Budget, {"share": number})[0].endswith("allowed: a finite number.")


@pytest.mark.parametrize(
    ("cls", "value", "fault"),
    [
        (Ingest, {"max_quarantine_share": 1.01}, "max_quarantine_share: found 1.01; allowed: 0 to 1."),
        (Ingest, {"max_quarantine_share": -0.01}, "max_quarantine_share: found -0.01; allowed: 0 to 1."),
        (MinHash, {"threshold": 0}, "threshold: found 0.0; allowed: above 0, at most 1."),
        (MinHash, {"ngram": 33}, "ngram: found 33; allowed: 1 to 32."),
        (MinHash, {"recall": 1}, "recall: found 1.0; allowed: between 0 and 1."),
        (MinHash, {"permutations": 0}, "permutations: found 0; allowed: 1 to 4096."),
        (Examples, {"sources": []}, "sources: found an empty list; allowed: at least one source."),
        (Examples, {"sources": ["a"], "sample": 0}, "sample: found 0; allowed: 1 or more."),
        (LanguagePolicy, {"min_score": 65}, "min_score: found 65.0; allowed: 0 to 1."),
        (QualityPolicy, {"min_score": -0.5}, "min_score: found -0.5; allowed: 0 to 1."),
        (PolicySettings, {"use": ["gopher", "gopher"]}, "use: found ['gopher', 'gopher']; allowed: each once."),
        (SourcePolicy, {"use": ["gopher", "gopher"]}, "use: found ['gopher', 'gopher']; allowed: each once."),
        (Dedup, {"prefer": ["length", "length"]}, "prefer: found ['length', 'length']; allowed: each once."),
        (Measure, {"signals": ["gopher", "gopher"]}, "signals: found ['gopher', 'gopher']; allowed: each once."),
        (Dedup, {"by": ["url", "url"]}, "by: found ['url', 'url']; allowed: each once."),
        (Dedup, {"index": ""}, "index: found an empty name; allowed: a directory, or null."),
        (Dedup, {"memory": "1MB"}, "memory: found 1000000 bytes; allowed: 64 MiB or more."),
        (MinHash, {"near_miss": 0.8}, "near_miss: found 0.8; allowed: above 0, below the threshold (0.8)."),
        (Decontaminate, {"against": {}}, "against: found an empty mapping; allowed: at least one evaluation set."),
        (Decontaminate, {"against": {"a": {"path": "x"}}, "ngram": 7}, "ngram: found 7; allowed: 8 to 64."),
        (Source, {"path": []}, "path: found (); allowed: a file, a glob pattern, or a list of them."),
        (Source, {"path": "s3://bucket/x.jsonl"}, "path: found 's3://bucket/x.jsonl'; allowed: local files, or hf://datasets/OWNER/NAME"),
        (Source, {"path": "x", "text": ""}, "text, id, meta, priority: found an empty name; allowed: the name of a field."),
        (Source, {"path": "x", "priority": ""}, "text, id, meta, priority: found an empty name; allowed: the name of a field."),
        (Source, {"path": "x", "split": "train[:9]"}, "split: found 'train[:9]'; allowed: the name of a split, such as 'train'."),
        (Source, {"path": "hf://datasets/x"}, "path: found 'hf://datasets/x'; allowed for the hub: hf://datasets/OWNER/NAME"),
        (Source, {"path": "x", "meta": ["a", "a"]}, "meta: found ['a', 'a']; allowed: each field once."),
        (Source, {"path": "x", "priority": 10**30}, "priority: found 1000000000000000000000000000000; allowed: -10^9 to 10^9."),
        (CurateConfig, {"sources": {}, "seed": -1}, "seed: found -1; allowed: 0 to 4294967295."),
        (Quality, {"positives": {"sources": ["a"]}, "negatives": {"sources": ["b"]}, "dim": 0}, "dim: found 0; allowed: 1 to 1000."),
        (Quality, {"positives": {"sources": ["a"]}, "negatives": {"sources": ["b"]}, "learning_rate": 0}, "learning_rate: found 0.0; allowed: above 0, at most 10."),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_its_range(cls: type, value: Any, fault: str) -> None:
    (found,) = faults_of(cls, value)
    assert found.startswith(f"$: {fault}")


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (Ingest, {"max_quarantine_share": 0}),
        (Ingest, {"max_quarantine_share": 1}),
        (MinHash, {"threshold": 1, "ngram": 1, "permutations": 1}),
        (MinHash, {"ngram": 32, "permutations": 4096}),
        (LanguagePolicy, {"min_score": 0}),
        (LanguagePolicy, {"min_score": 1}),
        (Decontaminate, {"against": {"a": {"path": "x"}}, "ngram": 8}),
        (CurateConfig, {"sources": {}, "seed": 2**32 - 1}),
        (Source, {"path": "x", "priority": -(10**9)}),
    ],
)
def test_a_value_at_the_end_of_its_range_is_allowed(cls: type, value: Any) -> None:
    converted = to_mapping(from_mapping(cls, value))
    assert {name: converted[name] for name in value if name != "against"} == {
        name: v for name, v in value.items() if name != "against"
    }


def config_of(**sections: Any) -> CurateConfig:
    return from_mapping(CurateConfig, {"sources": {"web": {"path": "web/*.jsonl"}}, **sections})


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"sources": {}}, "$.sources: found an empty mapping; allowed: at least one source."),
        ({"sources": {"eval:x": {"path": "a"}}}, "$.sources.eval:x: found the name 'eval:x'; allowed: letters, digits,"),
        ({"policy": {"sources": {"wbe": {}}}}, "$.policy.sources.wbe: no source is called 'wbe'; did you mean 'web'? Allowed: web."),
        ({"policy": {"set": {"gopher.word_cont.min": 3}}}, "$.policy.set.gopher.word_cont.min: no such rule; did you mean 'gopher.word_count.min'?"),
        ({"policy": {"use": [], "set": {"gopher.word_count.min": 3}}}, "$.policy.set.gopher.word_count.min: the rule is not in use; add 'gopher'"),
        ({"policy": {"set": {"gopher.word_count.min": 10**6}}}, "$.policy.set: gopher.word_count.min is 1e+06 and gopher.word_count.max is 100000: no document can pass both"),
        ({"measure": {"signals": ["gopher"]}}, "$.policy.use: 'gopher_repetition' needs its signals; add it to measure.signals."),
        (
            {"measure": {"signals": ["gopher"]}, "policy": {"use": ["gopher"], "sources": {"web": {"use": ["gopher_repetition"]}}}},
            "$.policy.sources.web.use: 'gopher_repetition' needs its signals; add it to measure.signals.",
        ),
        ({"policy": {"quality": {"min_score": 0.5}}}, "$.policy.quality.min_score: nothing measures quality; add measure.quality."),
        ({"measure": {"language": False}, "policy": {"language": {"keep": ["en"]}}}, "$.policy.language: nothing measures the language;"),
        ({"measure": {"language": False}, "policy": {"language": {"min_score": 0.5}}}, "$.policy.language: nothing measures the language;"),
        ({"policy": {"language": {"keep": ["no", "eng"]}}}, "$.policy.language.keep[1]: no language has the code 'eng'; did you mean 'en'?"),
        (
            {"measure": {"quality": {"positives": {"sources": ["wb"]}, "negatives": {"sources": ["web"]}}}},
            "$.measure.quality.positives.sources: no source is called 'wb'; did you mean 'web'?",
        ),
    ],
)  # fmt: skip
def test_sections_that_contradict_each_other_are_named(sections: dict[str, Any], fault: str) -> None:
    (found,) = faults_across(config_of(**sections))
    assert found.startswith(fault)


def test_contradictions_and_missing_files_are_reported_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web.jsonl").write_text("")
    (tmp_path / "mixed.yaml").write_text(
        f"""
sources:
  web: {{path: {tmp_path}/wbe.jsonl}}
decontaminate: {{against: {{mmlu: {{path: {tmp_path}/nothing/*.jsonl}}}}}}
policy: {{sources: {{wob: {{}}}}, quality: {{min_score: 0.5}}}}
"""
    )
    assert main(["run", str(tmp_path / "mixed.yaml"), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: 4 mistakes in the configuration:"
    assert sorted(line.split(": ")[1] for line in lines[1:]) == [
        "$.decontaminate.against.mmlu.path",
        "$.policy.quality.min_score",
        "$.policy.sources.wob",
        "$.sources.web.path",
    ]
    assert "did you mean 'web.jsonl'?" in "".join(lines)


# -- YAML ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("No", "No"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("N", "N"),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nil", "nil"), ("none", "none"),
        ("12", 12), ("-3", -3), ("+3", 3), ("017", 17), ("0x1F", 31), ("0o17", "0o17"), ("1_000", "1_000"),
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-.5e1", -5.0), ("1:30", "1:30"),
        (".inf", math.inf), ("-.INF", -math.inf), ("2024-05-01", "2024-05-01"), ("=", "="), ("<<", "<<"),
        ("'no'", "no"), ('"12"', "12"), ("!!str 12", "12"), ("!!int '12'", 12), ("!!float 1", 1.0),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(f"key: {text}\n", "x.yaml")["key"]
    assert (found, type(found)) == (value, type(value))


def test_norwegian_is_a_language_and_no_falsehood() -> None:
    policy = from_mapping(PolicySettings, parse_yaml("language: {keep: [no, en]}", "x.yaml"))
    assert policy.language.keep == ("no", "en")


def test_nan_is_read_as_a_number() -> None:
    assert math.isnan(parse_yaml("a: .nan", "x.yaml")["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml: line 3, column 1: not readable as YAML: the key 'a' is given twice (first on line 1)."),
        ("x: {a: 1, a: 2}", "the key 'a' is given twice"),
        ("x: [{b: 1,\n b: 2}]", "x.yaml: line 2, column 2: not readable as YAML: the key 'b' is given twice (first on line 1)."),
        ("? [a]\n: b", "x.yaml: line 1, column 3: not readable as YAML: a key must be text."),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !anything 3", "could not determine a constructor for the tag '!anything'"),
        ("a: !!binary aGk=", "could not determine a constructor"),
        ("a: !!set {b, c}", "could not determine a constructor"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!null x", "'x' is no null"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a:\n\t- b", "x.yaml: line 2, column 1: not readable as YAML: found character '\\t'"),
        ("a: [1", "x.yaml: line 1, column 6: not readable as YAML"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \0", "unacceptable character"),
        ('a: "\\ud800"', "half a surrogate pair"),
        ("a: &x [*x]", "recursive"),
        ("[" * 2000, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    assert message in str(caught.value)


def test_aliases_that_unfold_to_gigabytes_are_refused_in_a_moment() -> None:
    names = "abcdefghijk"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{before}'] * 9)}]" for before, n in itertools.pairwise(names)]
    text = "\n".join([*lines, "seed: *k", "sources: *k"])
    faults = faults_of(CurateConfig, parse_yaml(text, "x.yaml"))
    assert len(faults) == len(names) + 2
    assert max(map(len, faults)) < 300


# -- values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("tokens", "30k", 30_000), ("tokens", "20M", 20_000_000), ("tokens", "1.5b", 1_500_000_000),
        ("tokens", "2.3k", 2_300), ("tokens", "4.35K", 4_350), ("tokens", "512", 512), ("tokens", 7, 7),
        ("tokens", "9007199254740993", 9007199254740993), ("tokens", "0", 0),
        ("shard", "64MB", 64_000_000), ("shard", "1GiB", 1 << 30), ("shard", "256 MiB", 256 << 20),
        ("shard", "2.5kb", 2_500), ("shard", "100b", 100), ("shard", 12, 12),
    ],
)  # fmt: skip
def test_counts_and_sizes_may_be_written_with_their_unit(field: str, given: Any, expected: int) -> None:
    assert getattr(from_mapping(Budget, {field: given}), field) == expected


def test_a_whole_number_is_a_number_and_an_empty_section_is_its_defaults() -> None:
    config = from_mapping(
        CurateConfig, parse_yaml("sources: {web: {path: a}}\ndedup:\nnormalize:\n", "x.yaml")
    )
    assert config.dedup == Dedup()
    assert config.normalize == Normalize()
    share = from_mapping(Ingest, {"max_quarantine_share": 1}).max_quarantine_share
    assert (share, type(share)) == (1.0, float)


def test_null_leaves_out_what_may_be_left_out() -> None:
    config = from_mapping(
        CurateConfig, parse_yaml("sources: {web: {path: a}}\ndedup: {minhash: ~}", "x.yaml")
    )
    assert config.dedup.minhash is None
    assert config.decontaminate is None


def test_meta_fields_of_all_sources_are_united_and_sorted() -> None:
    config = config_of(
        sources={"b": {"path": "b", "meta": ["z", "lang"]}, "a": {"path": "a", "meta": ["lang", "a"]}}
    )
    assert config.meta == ("a", "lang", "z")


# -- defaults and round trips ----------------------------------------------------------------------------------


def fields_below(cls: type, value: Any, place: str = "$") -> Iterator[tuple[str, Any, Any]]:
    """(place, default, what stands there) of every field of a dataclass that has a default."""
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            continue
        if dataclasses.is_dataclass(default):
            yield from fields_below(type(default), value[field.name], f"{place}.{field.name}")
        else:
            yield f"{place}.{field.name}", default, value[field.name]


def test_show_config_prints_every_default_and_reads_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text("sources: {web: {path: no/such/*.jsonl}}\n")
    assert main(["run", str(tmp_path / "small.yaml"), "--show-config"]) == 0
    printed = parse_yaml(capsys.readouterr().out, "printed")
    found = list(fields_below(CurateConfig, printed))
    assert len(found) >= 20
    for place, default, shown in found:
        assert shown == (list(default) if isinstance(default, tuple) else default), place
    assert printed["sources"]["web"] == {
        "path": "no/such/*.jsonl", "text": "text", "id": None, "meta": [], "priority": 0, "format": None, "split": None,
    }  # fmt: skip
    assert from_mapping(CurateConfig, printed) == load_config(tmp_path / "small.yaml", CurateConfig)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
NAMES = TEXTS | st.sampled_from(
    ["no", "1e3", "08", "0x1F", "~", "true", ".5", "12e03", "null", "=", "- a", "#", "a: b"]
)
SCORES = st.none() | st.floats(0, 1)
PRESETS = st.lists(st.sampled_from(["gopher", "gopher_repetition"]), unique=True).map(tuple)
EXAMPLES = st.builds(
    Examples, sources=st.lists(NAMES, min_size=1).map(tuple), sample=st.none() | st.integers(1, 10**9)
)
PATHS = NAMES.filter(lambda text: "://" not in text)
SOURCES = st.builds(
    Source,
    path=PATHS | st.lists(PATHS, min_size=1).map(tuple),
    text=NAMES,
    id=st.none() | NAMES,
    meta=st.lists(NAMES, unique=True).map(tuple),
    priority=st.integers(-(10**9), 10**9) | NAMES,
    format=st.sampled_from([None, "jsonl", "csv", "text"]),
    split=st.sampled_from([None, "train"]),
)
CONFIGURATIONS = st.builds(
    CurateConfig,
    sources=st.dictionaries(NAMES, SOURCES, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    ingest=st.builds(Ingest, max_quarantine_share=st.floats(0, 1), on_duplicate_id=st.sampled_from(["quarantine", "fail"])),
    normalize=st.builds(Normalize, unicode=st.sampled_from([None, "NFC", "NFKC"]), fix_mojibake=st.booleans()),
    measure=st.builds(
        Measure,
        signals=st.sampled_from([("gopher",), ("gopher_repetition", "gopher")]),
        language=st.booleans(),
        quality=st.none() | st.builds(Quality, positives=EXAMPLES, negatives=EXAMPLES, learning_rate=st.floats(1e-9, 10)),
    ),
    dedup=st.builds(
        Dedup,
        exact=st.booleans(),
        minhash=st.none() | st.builds(MinHash, threshold=st.floats(1e-6, 1), permutations=st.none() | st.integers(1, 4096)),
        prefer=st.permutations(["priority", "quality", "length"]).map(tuple),
    ),
    decontaminate=st.none()
    | st.builds(Decontaminate, against=st.dictionaries(NAMES, SOURCES, min_size=1, max_size=2), ngram=st.integers(8, 64)),
    policy=st.builds(
        PolicySettings,
        use=PRESETS,
        set=st.dictionaries(NAMES, st.floats(-1e200, 1e200), max_size=3),
        language=st.builds(LanguagePolicy, keep=st.lists(NAMES, max_size=3).map(tuple), min_score=SCORES),
        quality=st.builds(QualityPolicy, min_score=SCORES),
        sources=st.dictionaries(NAMES, st.builds(SourcePolicy, use=st.none() | PRESETS, language=st.booleans()), max_size=2),
    ),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(config=CONFIGURATIONS)
def test_a_configuration_survives_plain_values_json_and_yaml(config: CurateConfig) -> None:
    plain = to_mapping(config)
    assert from_mapping(CurateConfig, plain) == config
    assert from_mapping(CurateConfig, json.loads(json.dumps(plain))) == config
    assert from_mapping(CurateConfig, parse_yaml(show_config(config), "shown")) == config


# -- the configurations that we ship ---------------------------------------------------------------------------


def test_there_are_configurations_to_ship() -> None:
    assert "demo.yaml" in [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_loads_and_opens_with_its_command(path: Path) -> None:
    config = load_config(path, CurateConfig)
    assert faults_across(config) == []
    comments = [line for line in path.read_text().splitlines()[:4] if line.startswith("#")]
    assert len(comments) >= 2
    assert any(f"curate run configs/curate/{path.name} --out runs/" in line for line in comments)


def test_a_number_that_is_given_twice_as_a_name_is_a_fault() -> None:
    @dataclasses.dataclass(frozen=True)
    class Shares:
        shots: dict[int, float]

    with pytest.raises(ConfigError, match=r"\$\.shots\.0: the name 0 is given twice"):
        from_mapping(Shares, {"shots": {"0": 0.5, 0: 0.5}})
