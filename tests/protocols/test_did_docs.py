"""The examples in did-docs are what the code writes, and the code reads them."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from didmpc.protocols.did import document, resolve
from didmpc.protocols.message import Message
from didmpc.protocols.messages.out_of_band import from_url

FOLDER = Path(__file__).parents[2] / "did-docs"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("did_docs_generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLES: dict[str, str] = load(FOLDER / "generate.py").examples()
COMMITTED = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json")}


def test_no_example_is_missing_or_left_over() -> None:
    assert set(EXAMPLES) == COMMITTED


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_an_example_is_what_the_code_writes(path: str) -> None:
    assert (FOLDER / path).read_text() == EXAMPLES[path], "run: python did-docs/generate.py"


@pytest.mark.parametrize("path", sorted(path for path in COMMITTED if ".did-" in path))
def test_a_did_in_an_example_resolves_to_the_document_beside_it(path: str) -> None:
    example = json.loads((FOLDER / path).read_text())
    resolved = resolve(example["did"])
    assert resolved.to_json() == example["document"]
    assert document.from_json(resolved.did, example["document"]) == resolved


@pytest.mark.parametrize("path", sorted(path for path in COMMITTED if path.startswith("invitation.")))
def test_an_invitation_in_an_example_is_the_message_beside_it(path: str) -> None:
    example = json.loads((FOLDER / path).read_text())
    assert from_url(example["url"]).to_message().to_json() == example["message"]


@pytest.mark.parametrize("path", sorted(path for path in COMMITTED if path.startswith("messages/")))
def test_a_message_in_an_example_is_read(path: str) -> None:
    text = (FOLDER / path).read_bytes()
    assert Message.decode(text).to_json() == json.loads(text)
