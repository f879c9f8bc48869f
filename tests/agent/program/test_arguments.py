"""Program arguments that MPyC would have taken for itself."""

import pytest

from didmpc.agent.program.arguments import check_arguments
from didmpc.protocols.errors import LocalMisuse


@pytest.mark.parametrize(
    "arguments",
    [
        ["-M3"],
        ["-M", "3"],
        ["5", "-I", "0"],
        ["-I0"],
        ["--index", "1"],
        ["--index=1"],
        ["-P", "localhost:5000"],
        ["-Plocalhost:5000"],
        ["-P:5000"],
        ["-B", "11000"],
        ["--base-port=11000"],
        ["--ssl"],
        ["-C", "party.ini"],
        ["-Cparty.ini"],
        ["--config", "party.ini"],
        ["--config=party.ini"],
        ["-T", "1"],
        ["-T1"],
        ["--threshold", "1"],
        ["--threshold=1"],
    ],
)
def test_what_would_choose_parties_threshold_or_network_is_refused_with_the_way_to_do_it(arguments):
    with pytest.raises(LocalMisuse) as refusal:
        check_arguments(arguments)
    assert "option of MPyC" in refusal.value.what
    assert refusal.value.fix


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["7"],
        ["-t", "3"],
        ["-m", "3", "-i", "0", "-b", "8", "-c", "x"],
        ["--thr", "0"],  # MPyC's parser would have eaten the abbreviations
        ["--conf", "x"],
        ["--threshold", "0.5"],
        ["--config", "settings.json"],
        ["--config=settings.toml"],
        ["-Mixed"],
        ["-Title"],
        ["-Import"],
        ["--sslice"],
        ["--", "-M3"],
        ["--out", "x", "--parallel-subtrees", "-1", "-l", "64"],
    ],
)
def test_what_belongs_to_the_program_passes(arguments):
    check_arguments(arguments)
