"""The programs of sessions that are over can still be read, as long as sessions name them."""

from pathlib import Path

import pytest

from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import kept_programs
from didmpc.agent.sessions.kept_programs import KeptPrograms


@pytest.fixture
def bundles(tmp_path: Path) -> list[Bundle]:
    """Three programs."""
    found = []
    for number in range(3):
        path = tmp_path / f"{number}.py"
        path.write_text(f"print({number})\n")
        found.append(Bundle.collect(path))
    return found


async def test_a_program_is_kept_as_long_as_a_session_names_it(tmp_path: Path, bundles: list[Bundle]) -> None:
    kept = KeptPrograms(tmp_path / "programs")
    one, other, newest = bundles
    for bundle in (one, other):
        await kept.keep(bundle, lambda: {one.sha256, other.sha256})
    assert [kept.find(each.sha256) for each in bundles] == [one, other, None]
    await kept.keep(newest, lambda: {other.sha256, newest.sha256})
    assert [kept.find(each.sha256) for each in bundles] == [None, other, newest]


async def test_where_there_is_no_room_the_oldest_go_and_the_newest_stays(
    tmp_path: Path, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_programs, "MOST", 1)
    kept = KeptPrograms(tmp_path / "programs")
    for bundle in bundles:
        await kept.keep(bundle, lambda: {each.sha256 for each in bundles})
    assert [kept.find(each.sha256) for each in bundles] == [None, None, bundles[-1]]


async def test_a_file_that_was_changed_is_not_shown_as_what_ran(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    kept = KeptPrograms(tmp_path / "programs")
    await kept.keep(bundles[0], lambda: {bundles[0].sha256})
    (tmp_path / "programs" / bundles[0].sha256).write_bytes(bundles[1].pack())
    assert kept.find(bundles[0].sha256) is None


async def test_a_folder_that_cannot_be_made_ends_no_run(tmp_path: Path, bundles: list[Bundle]) -> None:
    (tmp_path / "programs").write_text("in the way")
    await KeptPrograms(tmp_path / "programs").keep(bundles[0], lambda: {bundles[0].sha256})
