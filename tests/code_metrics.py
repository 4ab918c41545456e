"""Figures about the code itself: how long, branched and dense it is, and how deep it imports.

`python tests/code_metrics.py [FOLDER…]` prints them, `--list` also the places that break a limit.
`tests/test_code.py` holds the packages to the limits.
"""

import argparse
import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("rag", "eval", "ui")
MAX_LINE = 100
# A function with more branches than this is hard to follow.
MANY_BRANCHES = 8
# No function may have more, whatever the share of those with many.
MAX_BRANCHES = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.IfExp)


@dataclass(frozen=True)
class Module:
    """One file of Python: its path, its lines and its syntax tree."""

    path: Path
    lines: tuple[str, ...]
    tree: ast.Module

    def place(self, node: ast.AST) -> str:
        """Return `path:line` of a node."""
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


def load_modules(folder: Path) -> list[Module]:
    """Read every module below a folder, sorted by path."""
    modules = []
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        text = path.read_text(encoding="utf-8")
        modules.append(Module(path.resolve(), tuple(text.splitlines()), ast.parse(text)))
    return modules


def functions(module: Module) -> Iterator[Function]:
    """Yield every function of a module, nested ones and methods included."""
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node


def branches(function: Function) -> int:
    """Count the places where a function's control flow or value forks.

    Each if, for, while, except, case, conditional expression and comprehension clause (`for` and
    `if`) counts once, a boolean expression once for each operator. Functions defined inside count
    as part of it.
    """
    count = 0
    for node in ast.walk(function):
        if isinstance(node, _BRANCHES):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def body_lines(function: Function) -> int:
    """Count the lines of a function without its signature and docstring."""
    body = (
        function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    )
    return function.end_lineno - body[0].lineno + 1 if body else 0


def code_lines(module: Module) -> int:
    """Count the lines that are not blank."""
    return sum(bool(line.strip()) for line in module.lines)


def comprehensions(module: Module) -> int:
    """Count list, set and dict comprehensions and generator expressions."""
    return sum(isinstance(node, _COMPREHENSIONS) for node in ast.walk(module.tree))


def nested_comprehensions(module: Module) -> Iterator[str]:
    """Yield the places of comprehensions with another one inside, or with two loops."""
    for node in ast.walk(module.tree):
        if isinstance(node, _COMPREHENSIONS):
            inside = [child for child in ast.walk(node) if isinstance(child, _COMPREHENSIONS)]
            if len(inside) > 1 or len(node.generators) > 1:
                yield f"{module.place(node)} nested comprehension"


def nested_conditionals(module: Module) -> Iterator[str]:
    """Yield the places of conditional expressions inside another one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.IfExp):
            inside = [child for child in ast.walk(node) if isinstance(child, ast.IfExp)]
            if len(inside) > 1:
                yield f"{module.place(node)} conditional expression inside another one"


def long_lines(module: Module) -> Iterator[str]:
    """Yield the places of lines longer than `MAX_LINE` characters."""
    for number, line in enumerate(module.lines, start=1):
        if len(line) > MAX_LINE:
            yield f"{module.path.relative_to(ROOT)}:{number} line of {len(line)} characters"


def undocumented(module: Module) -> Iterator[str]:
    """Yield public functions, public classes and their public methods without a docstring."""
    definitions = (*Function.__args__, ast.ClassDef)
    for node in module.tree.body:
        if not isinstance(node, definitions) or node.name.startswith("_"):
            continue
        for member in [node, *(node.body if isinstance(node, ast.ClassDef) else [])]:
            is_public = isinstance(member, definitions) and not member.name.startswith("_")
            if is_public and ast.get_docstring(member) is None:
                yield f"{module.place(member)} {member.name} without docstring"


def imported(module: Module) -> set[str]:
    """Return the project's modules that a module imports while it is being imported."""
    names = set()
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.add(node.module)
    return {name for name in names if name.split(".")[0] in PACKAGES}


def dotted_name(module: Module) -> str:
    """Return the name that a module is imported by."""
    parts = module.path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def import_graph(modules: list[Module]) -> dict[str, set[str]]:
    """Map each module to the modules of the project that it imports."""
    known = {dotted_name(module) for module in modules}
    graph = {}
    for module in modules:
        name = dotted_name(module)
        graph[name] = {other for other in imported(module) if other in known and other != name}
    return graph


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """Return the longest chain of modules that import each other; the graph has no cycle."""
    best: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in best:
            best[name] = []  # a cycle would end here
            longest = max((chain(other) for other in graph[name]), key=len, default=[])
            best[name] = [name, *longest]
        return best[name]

    return max((chain(name) for name in sorted(graph)), key=len)


def faults(modules: list[Module]) -> list[str]:
    """List everything in some modules that breaks a limit."""
    found = []
    for module in modules:
        found += [*long_lines(module), *nested_comprehensions(module), *nested_conditionals(module)]
        for function in functions(module):
            if branches(function) > MANY_BRANCHES:
                found.append(
                    f"{module.place(function)} {function.name}: {branches(function)} branches"
                )
    return found


def summary(modules: list[Module]) -> str:
    """Return one line of figures about some modules."""
    lines = sum(map(code_lines, modules))
    every = [function for module in modules for function in functions(module)]
    bodies = sorted(map(body_lines, every)) or [0]
    branched = sum(branches(function) > MANY_BRANCHES for function in every)
    dense = sum(map(comprehensions, modules))
    wide = sum(len(list(long_lines(module))) for module in modules)
    p90 = bodies[int(0.9 * (len(bodies) - 1))]
    parts = [
        f"{len(modules)} modules, {lines:,} lines",
        f"body median {statistics.median(bodies):g}, p90 {p90}, max {bodies[-1]}",
        f"more than {MANY_BRANCHES} branches {branched / max(1, len(every)):.1%} of {len(every)}",
        f"comprehensions per 100 lines {100 * dense / max(1, lines):.1f} ({dense})",
        f"lines over {MAX_LINE} {wide} ({wide / max(1, lines):.1%})",
    ]
    return "; ".join(parts)


def main() -> None:
    """Print the figures of packages or folders, and what breaks a limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / name for name in PACKAGES])
    parser.add_argument("--list", action="store_true", help="also list what breaks a limit")
    options = parser.parse_args()
    for folder in options.folders:
        modules = load_modules(folder)
        chain = longest_chain(import_graph(modules))
        print(f"{folder.name}: {summary(modules)}; import depth {len(chain)}")
        print("   " + " > ".join(chain))
        if options.list:
            print("\n".join(f"   {fault}" for fault in faults(modules)))


if __name__ == "__main__":
    main()
