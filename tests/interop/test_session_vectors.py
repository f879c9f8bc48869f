"""The vectors of session/1.0: a generator and a verifier agree, neither of which is the implementation."""

import ast
import importlib.util
import json
import random
import shutil
from pathlib import Path

import pytest
from session_verifier.reading import Refused
from session_verifier.verify import Mismatch, Verifier

VECTORS = Path(__file__).parents[1] / "vectors" / "session-1.0"
FILES = sorted(path.name for path in VECTORS.glob("*.json"))
# Names for the reader, and headers of DIDComm that no key depends on.
FREE = {"what", "name", "type", "expires_time", "wires"}


def test_every_vector_is_what_the_specification_says():
    assert Verifier(VECTORS).run() > 1000


def test_generator_and_verifier_use_no_implementation():
    sources = [VECTORS / "generate.py", *Path(__file__).with_name("session_verifier").glob("*.py")]
    assert len(sources) > 5
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level or not (node.module or "").startswith("didmpc"), source
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("didmpc") for name in node.names), source


def test_the_generator_writes_the_same_again(tmp_path):
    specification = importlib.util.spec_from_file_location("generate", VECTORS / "generate.py")
    assert specification is not None and specification.loader is not None
    generate = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generate)
    shutil.copy(VECTORS / "mlkem768.json", tmp_path)
    generate.main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes(), name


def leaves(value, path=()):
    """Every text, number and truth of a file, with the way to it."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name not in FREE:
                yield from leaves(member, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif value is not None and value != "" and path[-2:] != ("accept", "id"):
        yield path, value


def altered(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    present = value[len(value) // 3]
    middle = "1" if present != "1" else "2"
    return value[: len(value) // 3] + middle + value[len(value) // 3 + 1 :]


# What is altered here may be noticed or still be refused for the same reason.
@pytest.mark.parametrize("name", [name for name in FILES if name != "refusals.json"])
def test_the_verifier_notices_an_altered_vector(name, tmp_path):
    shutil.copytree(VECTORS, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__py*"))
    original = (VECTORS / name).read_text("utf-8")
    places = [place for place in leaves(json.loads(original)) if not may_be_altered(place[0], original)]
    for path, value in random.Random(name).sample(places, min(12, len(places))):
        content = json.loads(original)
        holder = content
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = altered(value)
        (tmp_path / name).write_text(json.dumps(content), "utf-8")
        with pytest.raises((Mismatch, Refused, AssertionError, ValueError, KeyError)):
            Verifier(tmp_path).run()
            pytest.fail(f"{name}: {path} was altered, and nobody noticed")


def may_be_altered(path, original):
    """Whether altering this may change nothing: what is refused for more than one reason, and padding."""
    if (path[0], path[-1]) in {("padding", "frames"), ("frames", "plaintext"), ("links", "plaintext")}:
        return True
    if any(isinstance(step, str) and ("refused" in step or step == "limits") for step in path):
        return True
    if path[0] != "sequences":
        return False
    step = json.loads(original)
    for part in path[:-1]:
        step = step[part]
    return "error" in step and path[-1] != "error"
