from fractions import Fraction

import pytest

from curate.config import from_mapping, to_mapping
from filters.errors import ConfigError
from mixtures.tasks import Documents, Task
from mixtures.variants import Variant, Variants

PLAIN = {"id": "plain", "input": "{{ q }}", "target": "{{ a }}"}
COT = {"id": "steps", "cot": True, "input": "{{ q }}", "target": "{{ why }} {{ a }}"}


def task_of(*templates, **settings):
    fields = {"q": "q", "a": "a", "why": "why"}
    return from_mapping(
        Task,
        {
            "id": "demo",
            "source": {"path": "x"},
            "fields": fields,
            "rationale": "why",
            "templates": templates,
            **settings,
        },
    )


def named_shares(variants, task):
    return {variant.name: share for variant, share in variants.of(task).items()}


def test_every_pair_has_the_product_of_its_shares_exactly():
    variants = from_mapping(Variants, {"shots": {0: 0.5, 3: 0.5}, "cot": {0: 0.7, 1: 0.3}})
    assert named_shares(variants, task_of(PLAIN, COT)) == {
        "0shot": Fraction(35, 100),
        "3shot": Fraction(35, 100),
        "0shot+cot": Fraction(15, 100),
        "3shot+cot": Fraction(15, 100),
    }


def test_a_task_without_a_rationale_template_has_no_chain_of_thought():
    variants = Variants(shots={0: 1.0, 2: 3.0}, cot={0: 0.7, 1: 0.3})
    assert named_shares(variants, task_of(PLAIN)) == {"0shot": Fraction(1, 4), "2shot": Fraction(3, 4)}


def test_rendered_sets_and_documents_stand_alone():
    variants = Variants(shots={3: 1.0}, cot={1: 1.0})
    rendered = from_mapping(
        Task,
        {"id": "r", "kind": "rendered", "source": {"path": "x"}, "fields": {"input": "i", "target": "t"}},
    )
    assert named_shares(variants, rendered) == {"0shot": 1}
    assert named_shares(variants, Documents("runs/x").task()) == {"0shot": 1}


def test_a_choice_without_a_share_makes_no_variant():
    variants = Variants(shots={0: 1.0, 3: 0.0}, cot={0: 0.0, 1: 2.0})
    assert named_shares(variants, task_of(PLAIN, COT)) == {"0shot+cot": 1}


def test_the_plan_is_told_the_templates_of_each_variant():
    second = {**PLAIN, "id": "second"}
    made = Variants(cot={0: 0.75, 1: 0.25}).for_plan(task_of(PLAIN, COT, second))
    assert [(v.name, v.edge, v.templates) for v in made] == [
        ("0shot", 3 * 2**62, ("plain", "second")),
        ("0shot+cot", 2**64, ("steps",)),
    ]


def test_variants_survive_json_whose_keys_are_text():
    variants = from_mapping(Variants, {"shots": {"10": 1, "2": 1}})
    assert list(variants.shots) == [2, 10]
    assert from_mapping(Variants, to_mapping(variants)) == variants


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": {"few": 1}}, r"\$\.shots: the name 'few'"),
        ({"shots": {65: 1}}, "shots: found 65; allowed: 0 to 64"),
        ({"shots": {}}, "shots: found nothing"),
        ({"cot": {2: 1}}, "cot: found 2; allowed: 0 to 1"),
        ({"cot": {0: 0, 1: 0}}, "not all 0"),
        ({"shots": {0: -1, 1: 2}}, "must not be negative"),
    ],
)
def test_shares_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Variants, settings)


def test_a_number_given_twice_is_refused():
    with pytest.raises(ValueError, match="shots: found '0', 0; allowed: each number once"):
        Variants(shots={"0": 0.5, 0: 0.5})


def test_a_name_that_is_none_of_ours_is_refused():
    assert Variant.named(Variant(12, True).name) == Variant(12, True)
    with pytest.raises(ValueError, match="'fewshot' is no name"):
        Variant.named("fewshot")
