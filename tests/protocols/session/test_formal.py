"""docs/formal/README.md says what is proven: it names every model, every claim, and only tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FORMAL = ROOT / "docs" / "formal"
README = (FORMAL / "README.md").read_text()
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)))
MODELS = sorted(path.name for path in FORMAL.iterdir() if path.suffix in (".pv", ".pvl"))


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables below a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.M)


def test_every_model_is_named_and_every_named_model_exists() -> None:
    assert set(re.findall(r"`(\w+\.pvl?)`", README)) == set(MODELS)
    listed = [cells[0].strip("`") for cells in rows("Models") if cells[0].startswith("`")]
    assert sorted(listed) == [name for name in MODELS if name.endswith(".pv")]


def test_the_libraries_of_each_model_are_those_that_it_uses() -> None:
    for cells in rows("Models"):
        if len(cells) == 5 and cells[0].startswith("`"):
            for library in re.findall(r"`(\w+)`", cells[1]):
                assert (FORMAL / f"{library}.pvl").exists()


def test_controls_say_that_they_are_and_must_fail() -> None:
    for name in MODELS:
        is_control = (FORMAL / name).read_text().startswith("(* CONTROL: ")
        assert is_control == name.startswith("neg_")
    for cells in rows("Models"):
        if cells[0].startswith("`"):
            assert cells[-1].startswith("true") != cells[0].startswith("`neg_")


def test_each_claim_of_the_security_section_has_a_model_a_test_or_an_argument() -> None:
    document = (ROOT / "docs" / "session-extension.md").read_text()
    section = document.split("## 19. Security considerations")[1].split("\n## ")[0]
    items = re.findall(r"^- \*\*(.+?)\*\*", section, re.M)
    assert len(items) == section.count("\n- ") > 10
    claims = {cells[0]: cells[1:] for cells in rows("Claims")}
    for item in items:
        assert any(claims[item.rstrip(".")]), item
