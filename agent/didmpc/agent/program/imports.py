"""Which files beside a program it imports, found without running it.

Python finds modules beside the program first. An imported package comes whole (its submodules may be found
by name at run time). MPyC and this package are every party's own, whatever lies beside the program.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from didmpc.protocols.errors import LocalMisuse

PARTYS_OWN = frozenset({"mpyc", "didmpc"})
CACHE = "__pycache__"
NUMPY = "numpy"
ARRAYS = frozenset({NUMPY, "mpyc.numpy"})
MOST = 256


def imported_files(entry: Path) -> Iterator[Path]:
    """`entry`, and the modules and packages beside it that it imports, transitively. Raises LocalMisuse."""
    folder = entry.parent
    waiting, seen = [entry], {entry}
    while waiting:
        path = waiting.pop()
        yield path
        for name in sorted(_imported_names(path)):
            for found in _beside(folder, name):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)


def _imported_names(path: Path) -> set[str]:
    """The top-level names of absolute imports, anywhere in the file; relative ones stay in their package."""
    return _names(ast.walk(parse(path))) - PARTYS_OWN


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def needed_modules(entry: str, contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """The modules from outside that a bundle cannot run without, as far as can be seen without running it.

    Those imported at the top of the entry and of the bundle's modules that it imports there; and numpy where
    arrays are used anywhere. None for a source that this Python cannot read; it may be a stranger's.
    """
    inside = {path.split("/")[0].removesuffix(".py"): path for path in contents if path.endswith(".py")}
    found: set[str] = set()
    waiting, seen = [entry], {entry}
    while waiting:
        try:
            tree = ast.parse(contents[waiting.pop()])
        except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
            return ()
        for name in _names(tree.body):
            if name not in inside:
                found.add(name)
            elif inside[name] not in seen:
                seen.add(inside[name])
                waiting.append(inside[name])
        if _uses_arrays(tree):
            found.add(NUMPY)
    return tuple(sorted(found)[:MOST])


def missing_modules(needed: Iterable[str]) -> list[str]:
    """Which of these modules are not installed here."""
    others = (name for name in needed if name.isidentifier() and name not in sys.stdlib_module_names)
    return [name for name in others if importlib.util.find_spec(name) is None]


def _uses_arrays(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("np_"):
            return True
        if isinstance(node, ast.Import) and any(each.name in ARRAYS for each in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in ARRAYS:
            return True
    return False


def parse(path: Path) -> ast.Module:
    """The syntax tree of a source file of ours. Raises LocalMisuse."""
    try:
        return ast.parse(path.read_bytes(), filename=path.name)
    except SyntaxError as error:
        where = f"{path.name}, line {error.lineno}" if error.lineno else path.name
        raise LocalMisuse(
            f"{where}, is not Python." if error.lineno else f"{where} is not Python.",
            why=f"{error.msg}.",
            fix="Run it once with MPyC alone: python " + path.name,
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise LocalMisuse(f"{path.name} is not Python.", why=str(error)) from None
    except OSError as error:
        raise LocalMisuse(f"{path.name} cannot be read.", why=error.strerror or str(error)) from None


def _beside(folder: Path, name: str) -> Iterator[Path]:
    module, package = folder / f"{name}.py", folder / name
    if package.is_dir():
        found = sorted(path for path in package.rglob("*.py") if CACHE not in path.parts and path.is_file())
        # a folder without __init__.py is a package too, but only where no module has its name
        if (package / "__init__.py").is_file() or (found and not module.is_file()):
            yield from found
            return
    if module.is_file():
        yield module
