"""Which files beside a program it imports, found without running it.

Python finds modules beside the program first. An imported package comes whole (its submodules may be found
by name at run time). MPyC and this package are every party's own, whatever lies beside the program.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from didmpc.protocols.errors import LocalMisuse

PARTYS_OWN = frozenset({"mpyc", "didmpc"})
CACHE = "__pycache__"


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
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names - PARTYS_OWN


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
