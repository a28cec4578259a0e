import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures import templates
from mixtures.templates import Template, TemplateError

ROW = {"question": "What is 2 + 3?", "answer": "5", "choices": ["4", "5", "6"]}


def render(source, **fields):
    return Template("t", source, "x").render({**ROW, **fields})[0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Q: {{ question }}", "Q: What is 2 + 3?"),
        (
            "{% for c in choices %}{{ 'ABC'[loop.index0] }}. {{ c }}{{ '; ' if not loop.last }}{% endfor %}",
            "A. 4; B. 5; C. 6",
        ),
        ("{{ choices|join(', ') }} ({{ choices|length }})", "4, 5, 6 (3)"),
        ("{% if answer in choices %}yes{% else %}no{% endif %}", "yes"),
        ("{{ 'n' ~ answer ~ (1 + 1) }}", "n52"),
        ("{% set first = question.split(' ')[0] %}{{ first|upper }}{{ question[-1:] }}", "WHAT?"),
        ("{{ choices|reverse|join }}{{ answer|int * 3 }}", "65415"),
        ("{{ question|replace('2', 'two')|lower }}", "what is two + 3?"),
        ("{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}", "25"),
        ("{{ 'abc'|list|join('-') }}{{ choices|list|length }}", "a-b-c3"),
        ("{{ ' a '|trim }}{{ 'xay'|trim('xy') }}{{ 5|trim }}", "aa5"),
    ],
)
def test_the_small_language_does_what_jinja_does(source, text):
    assert render(source) == text


def test_an_input_has_no_white_space_at_its_end_and_a_target_none_around_it():
    assert Template("t", "  {{ question }} \n\n", "\n {{ answer }} \n").render(ROW) == (
        "  What is 2 + 3?",
        "5",
    )


@given(st.text())
def test_a_field_appears_as_it_is_whatever_it_contains(text):
    assert render("<{{ question }}>", question=text) == f"<{text}>"


def test_jinja_inside_a_field_stays_text():
    assert render("{{ question }}", question="{{ answer }}{% if %}<b>&amp;") == "{{ answer }}{% if %}<b>&amp;"


# What would let a template reach Python, or show something that changes from run to run.
@pytest.mark.parametrize(
    "source",
    [
        "{{ question.__class__.__mro__[1].__subclasses__() }}",
        "{{ question['__class__'] }}",
        "{{ question[answer] }}",
        "{{ question|attr('__class__') }}",
        "{{ (question.split).__self__ }}",
        "{{ question.split }}",
        "{{ question.format(answer) }}",
        "{{ question.format_map({}) }}",
        "{{ range }}",
        "{{ range.__globals__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{% for c in choices %}{{ loop }}{% endfor %}",
        "{% for c in choices %}{{ loop.__class__ }}{% endfor %}",
        "{% for c in choices %}{{ loop._iterable }}{% endfor %}",
        "{% for c in choices recursive %}{{ loop(choices) }}{% endfor %}",
        "{{ lipsum() }}",
        "{{ cycler('a', 'b').next() }}",
        "{{ namespace(a=1) }}",
        "{{ dict(a=1) }}",
        "{{ {'a': 1} }}",
        "{% include 'secrets' %}",
        "{% import 'os' as os %}",
        "{% extends 'base' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% block b %}{% endblock %}",
        "{% filter upper %}a{% endfilter %}",
        "{% set x %}a{% endset %}",
        "{{ choices|random }}",
        "{{ choices|map('upper')|list }}",
        "{{ question|tojson }}",
        "{{ range(*choices) }}",
        "{{ choices.append('7') }}",
        "{{ undefined_field }}",
        "{{ question.missing }}",
        "{{ 1 / 0 }}",
        "{{ question + 1 }}",
    ],
)
def test_what_is_outside_the_small_language_fails_and_says_where(source):
    with pytest.raises((TemplateError, ValueError), match=r"line 1|Undefined|Error|\[\.\.\.\] with|'\+' of"):
        render(source)


DOUBLING = "{% set a = question %}" + "{% set a = a OP a %}" * 40 + "{{ a }}"


# What would make time or memory explode. Each must fail within a second, not merely fail.
@pytest.mark.parametrize(
    "source",
    [
        "{{ question * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ 10 ** 100000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 'a'|indent(1000000000) }}",
        "{{ '{:>1000000000}'|format(1) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ range(1000000000)|list }}",
        "{% for i in range(999) %}{% for j in range(999) %}{% for k in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for i in range(999) %}{{ question }}{% endfor %}" * 200,
        "{% for i in range(999) %}" * 20 + "{% endfor %}" * 20,
        DOUBLING.replace("OP", "+"),
        DOUBLING.replace("OP", "~"),
        DOUBLING.replace("question", "[question]").replace("OP", "+"),
        "{% set a = question %}" + "{% set a = a|replace('a', a ~ a) %}" * 40 + "{{ a }}",
        "{% set a = question %}" + "{% set a = a|join(a) %}" * 40 + "{{ a }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
        "{{ " + "9" * 10000 + " }}",
        "a" * 20_000,
        "{{ '%1000000000d' is odd }}",
        "{% set a = [question] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
        "{% set a = [question] %}" + "{% set a = [a, a] %}" * 40 + "{{ a|string }}",
        "{% set a = [question] %}" + "{% set a = [a, a] %}" * 40 + "{{ [a]|join }}",
        "{% set a = [1] %}{% set b = [1] %}"
        + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
        + "{{ a == b }}",
        "{% set a = [1] %}{% set b = [1] %}"
        + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
        + "{{ a in [b] }}",
        "{% set a = [1] %}{% set b = [1] %}"
        + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
        + "{{ a is in [b] }}",
        "{% set a = (1, 2) %}" + "{% set a = (a, a) %}" * 40 + "{{ [a]|unique }}",
    ],
)
def test_a_template_cannot_explode(source):
    started = time.perf_counter()
    with pytest.raises((TemplateError, ValueError)):
        render(source)
    assert time.perf_counter() - started < 1.0


# What looks through a long value without making a longer one. 1,000 iterations would take minutes.
@pytest.mark.parametrize(
    "looking",
    [
        "{% if question.split('y') %}{% endif %}",
        "{% if question.split() %}{% endif %}",
        "{% if question.upper() %}{% endif %}",
        "{% if question.strip(question) %}{% endif %}",
        "{% if question|trim(question) %}{% endif %}",
        "{% if question.startswith(question) %}{% endif %}",
        "{% if question[::-1] %}{% endif %}",
        "{% if question[:-1] %}{% endif %}",
        "{% if answer in question %}{% endif %}",
        "{% if question is in choices %}{% endif %}",
        "{% if question == other %}{% endif %}",
        "{% if question is equalto(other) %}{% endif %}",
    ],
)
def test_looking_through_a_long_text_is_paid_for(looking):
    fields = {"question": "x" * 900_000, "other": "x" * 900_000, "choices": ["x" * 899_999] * 3}
    started = time.perf_counter()
    with pytest.raises(TemplateError, match="more than 20,000,000 steps"):
        render("{% for i in range(999) %}" + looking + "{% endfor %}", **fields)
    assert time.perf_counter() - started < 2.0


def test_slices_tests_and_comparisons_are_those_of_jinja():
    source = "{{ choices[1:] }}{{ choices[::-1][0] }}{{ question[:4] }}{{ 3 is odd }}{{ 3 is even }}{{ 1 < 2 <= 2 }}"
    assert render(source) == "['5', '6']6WhatTrueFalseTrue"
    assert render("{{ missing is defined }}{{ missing|default('-') }}{{ '5' is in choices }}") == "False-True"


def test_the_output_is_limited_also_where_no_single_value_is_long():
    fields = {"question": "x" * 200_000}
    assert len(render("{{ question }}" * 5, **fields)) == 1_000_000
    with pytest.raises(TemplateError, match="output of more than 1,000,000 characters"):
        render("{{ question }}" * 6, **fields)


def test_every_rendering_has_the_whole_budget():
    template = Template(
        "t", "{% for i in range(999) %}{% for j in range(15) %}{% endfor %}{% endfor %}ok", "x"
    )
    assert [template.render(ROW)[0] for _ in range(5)] == ["ok"] * 5  # 80% of the budget each


def test_threads_do_not_spend_each_others_budget():
    template = Template(
        "t", "{% for i in range(999) %}{% for j in range(10) %}{% endfor %}{% endfor %}ok", "x"
    )
    results = []
    threads = [threading.Thread(target=lambda: results.append(template.render(ROW)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["ok"] * 4


def test_a_template_names_its_fields_and_not_its_own_variables():
    source = "{% set a = question %}{% for c in choices %}{{ loop.index }}{{ c }}{{ a }}{% endfor %}{{ range(3)|length }}"
    assert Template("t", source, "{{ answer }}").fields == {"question", "choices", "answer"}


def test_a_mistake_is_found_when_the_template_is_made_and_names_the_part():
    with pytest.raises(ValueError, match=r"target: line 2: unexpected '}'"):
        Template("t", "{{ a }}", "ok\n{{ a } }}")
    with pytest.raises(
        ValueError, match="input: line 1: no filter 'uper' in templates; allowed are capitalize"
    ):
        Template("t", "{{ a|uper }}", "ok")


def test_compiling_twice_is_compiling_once():
    templates._compiled.cache_clear()
    for _ in range(3):
        Template("t", "{{ once }}", "x").render({"once": "a"})
    assert templates._compiled.cache_info().misses == 2


@pytest.mark.parametrize(
    "source",
    ["{{ question * 2 }}", "{{ [1] * 2 }}", "{{ '%d' % 1 }}", "{{ 2 ** 9 }}", "{{ 1000001 * 1 }}"],
    ids=["text", "list", "format", "power", "number"],
)
def test_sums_that_could_grow_are_refused_whatever_they_would_give(source):
    with pytest.raises(TemplateError):
        render(source)
