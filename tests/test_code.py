"""The code stays easy to read: short lines, few branches, few comprehensions, shallow imports."""

import ast
from pathlib import Path

import pytest
from code_metrics import (
    MANY_BRANCHES,
    MAX_LINE,
    PACKAGES,
    ROOT,
    Module,
    branches,
    code_lines,
    comprehensions,
    functions,
    import_graph,
    load_modules,
    long_lines,
    longest_chain,
    nested_comprehensions,
    nested_conditionals,
    undocumented,
)

import rag

MAX_COMPREHENSIONS_PER_100_LINES = 2.5
MAX_SHARE_OF_BRANCHED_FUNCTIONS = 0.03
MAX_IMPORT_DEPTH = 9
MAX_ENTRIES_OF_RAG = 14
MAX_PUBLIC_NAMES = 26
MAX_README_BYTES = 10 * 1024


def module_of(text):
    """Parse a program as a module of the project."""
    return Module(ROOT / "rag" / "example.py", tuple(text.splitlines()), ast.parse(text))


@pytest.fixture(scope="module", params=PACKAGES)
def modules(request):
    return load_modules(ROOT / request.param)


def test_no_line_is_too_long(modules):
    assert [place for module in modules for place in long_lines(module)] == []


def test_no_comprehension_is_nested(modules):
    assert [place for module in modules for place in nested_comprehensions(module)] == []


def test_no_conditional_expression_is_nested(modules):
    assert [place for module in modules for place in nested_conditionals(module)] == []


def test_public_functions_classes_and_methods_have_docstrings(modules):
    assert [place for module in modules for place in undocumented(module)] == []


def test_comprehensions_are_rare(modules):
    lines = sum(map(code_lines, modules))
    assert 100 * sum(map(comprehensions, modules)) / lines <= MAX_COMPREHENSIONS_PER_100_LINES


def test_functions_with_many_branches_are_rare(modules):
    every = [function for module in modules for function in functions(module)]
    branched = [function.name for function in every if branches(function) > MANY_BRANCHES]
    assert len(branched) / len(every) <= MAX_SHARE_OF_BRANCHED_FUNCTIONS, branched


def test_imports_inside_rag_are_shallow():
    chain = longest_chain(import_graph(load_modules(ROOT / "rag")))
    assert len(chain) <= MAX_IMPORT_DEPTH, " > ".join(chain)


def test_the_front_doors_are_small():
    entries = [path.name for path in (ROOT / "rag").iterdir()]
    visible = [name for name in entries if name not in ("__init__.py", "__pycache__", "README.md")]
    assert len(visible) <= MAX_ENTRIES_OF_RAG, sorted(visible)
    assert len(rag.__all__) <= MAX_PUBLIC_NAMES
    assert (ROOT / "README.md").stat().st_size <= MAX_README_BYTES


# --- the figures themselves, worked out by hand -------------------------------------------


def test_branches_count_every_fork():
    program = """
def forked(a, b):
    if a and b or a:
        return 1 if a else 2
    for item in a:
        while item:
            item = [x for x in item if x]
    try:
        match a:
            case 1:
                pass
    except ValueError:
        pass
"""
    (function,) = functions(module_of(program))
    # if, and, or, conditional, for, while, comprehension for, comprehension if, case, except
    assert branches(function) == 10


def test_nested_comprehensions_are_found():
    nested = module_of("a = [[y for y in x] for x in z]\nb = [y for x in z for y in x]\n")
    flat = module_of("a = [x for x in z]\nb = sum(x for x in z)\n")
    places = list(nested_comprehensions(nested))
    assert places == [
        "rag/example.py:1 nested comprehension",
        "rag/example.py:2 nested comprehension",
    ]
    assert list(nested_comprehensions(flat)) == []
    assert comprehensions(nested) == 3


def test_nested_conditional_expressions_are_found():
    assert list(nested_conditionals(module_of("a = 1 if x else 2 if y else 3\n"))) != []
    assert list(nested_conditionals(module_of("a = 1 if x else 2\nb = 3 if y else 4\n"))) == []


def test_long_lines_are_found():
    module = module_of("a = 1\n" + "b = " + "1" * MAX_LINE + "\n")
    assert list(long_lines(module)) == [f"rag/example.py:2 line of {MAX_LINE + 4} characters"]


def test_the_longest_chain_follows_imports():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": set()}
    assert longest_chain(graph) == ["a", "b", "c"]


def test_missing_docstrings_are_found():
    module = module_of(
        "def f():\n    pass\n\ndef _g():\n    pass\n\nclass C:\n    'Doc.'\n    def m(self): ...\n"
    )
    assert list(undocumented(module)) == [
        "rag/example.py:1 f without docstring",
        "rag/example.py:9 m without docstring",
    ]
    assert Path(module.path).name == "example.py"
