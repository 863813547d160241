"""Fingerprint of the source that a stage uses: its module and, transitively, whatever it imports of this project.

Comments, docstrings and layout do not count, code does. Imports are found in the syntax tree (also inside functions),
so nothing is executed and heavy libraries stay out.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

PACKAGES = ("compression", "tasks")


def module_hashes(module: str, packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Hash every module of `packages` that running `module` may execute.

    Args:
        module: dotted name of the module to start from.
        packages: top-level packages to stay inside of.

    Returns:
        dotted module name -> 16 hexadecimal digits of the hash of its syntax tree, in order of name.

    Raises:
        ModuleNotFoundError: `module` is not in `packages`.

    Example:
        >>> "compression.configuration" in module_hashes("compression.training.config")
        True
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _module_file(name, tuple(packages))
        if path is None:
            if name == module:
                raise ModuleNotFoundError(f"{module} is not a module of {', '.join(packages)}")
            continue
        status = path.stat()
        found[name], imported = _read(path, status.st_mtime_ns, status.st_size, name)
        waiting += [candidate for candidate in imported if candidate.split(".")[0] in packages]
    return dict(sorted(found.items()))


@lru_cache(maxsize=4096)
def _module_file(name: str, packages: tuple[str, ...]) -> Path | None:
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top) if top in packages else None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin and not rest else None
    bases = [Path(location).joinpath(*rest) for location in spec.submodule_search_locations]
    candidates = [path for base in bases for path in (base / "__init__.py", base.with_name(f"{base.name}.py"))]
    return next((path for path in candidates if path.is_file()), None)


@lru_cache(maxsize=4096)
def _read(path: Path, _modified: int, _size: int, name: str) -> tuple[str, tuple[str, ...]]:
    """Hash and imports of one file; memoised until the file changes."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    imported = tuple(sorted(set(_imports(tree, name, is_package=path.name == "__init__.py"))))
    _strip_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imported


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]


def _imports(tree: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names that importing or running the module may load, parent packages included."""
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".") if is_package else name.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # `from package import name` may name a submodule; whether it does is found out when its file is looked for.
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree without the bodies of `if TYPE_CHECKING:`, which never run."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield from (other, *_executed(other))
            continue
        yield child
        yield from _executed(child)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
