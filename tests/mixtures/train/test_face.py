import ast
from pathlib import Path

import pytest

import mixtures.train


def test_every_public_name_exists_and_says_what_it_is():
    assert dir(mixtures.train) == mixtures.train.__all__ == sorted(set(mixtures.train.__all__))
    for name in mixtures.train.__all__:
        value = getattr(mixtures.train, name)
        assert isinstance(value, dict) or value.__doc__, name
    with pytest.raises(AttributeError, match=r"module 'mixtures\.train' has no attribute 'nothing'"):
        _ = mixtures.train.nothing


def test_the_names_for_type_checkers_are_the_names_that_exist():
    tree = ast.parse(Path(mixtures.train.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
    stated = {alias.asname: node.module for node in block.body for alias in node.names}
    assert stated == mixtures.train._HOMES


def test_no_public_name_hides_behind_a_module_of_the_same_name():
    modules = {path.stem for path in Path(mixtures.train.__file__).parent.glob("*.py")}
    assert not modules & set(mixtures.train.__all__)
