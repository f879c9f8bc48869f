"""Programs as bundles: what is collected, and what is believed of what comes."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.agent.program.bundle import Bundle, BundleLimits, line_differences
from didmpc.protocols.errors import LocalMisuse, MessageError


def tree(root, files):
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def paths(bundle):
    return [file.path for file in bundle.files]


def packed(files, *, entry="a.py", header=None):
    """What a peer could send: `files` maps paths to contents."""
    if header is None:
        described = [
            {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for path, data in files.items()
        ]
        value = {"entry": entry, "files": described}
        header = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    blob = zlib.compress(b"".join([len(header).to_bytes(4, "big"), header, *files.values()]))
    return blob, hashlib.sha256(header).hexdigest()


# -- collecting


def test_imports_are_followed_and_nothing_else_is_taken(tmp_path):
    tree(
        tmp_path,
        {
            "vote.py": '"""A vote.\n\nMore."""\nimport sys, helper\nfrom pack.sub import x\n'
            "from mpyc.runtime import mpc\n",
            "helper.py": "def late():\n    import deeper\n",
            "deeper.py": "import helper  # a circle\n",
            "pack/__init__.py": "",
            "pack/sub.py": "import aside\nfrom . import other\n",
            "pack/other.py": "",
            "pack/__pycache__/other.py": "",
            "aside.py": "",
            "unrelated.py": "",
            "secret.txt": "",
            "mpyc/__init__.py": "",
            "data/a.csv": "1,2\n",
            "data/deep/b.csv": "3\n",
            "data/.hidden": "",
            "data/.git/config": "",
        },
    )
    bundle = Bundle.collect(tmp_path / "vote.py")
    assert paths(bundle) == [
        "aside.py",
        "data/a.csv",
        "data/deep/b.csv",
        "deeper.py",
        "helper.py",
        "pack/__init__.py",
        "pack/other.py",
        "pack/sub.py",
        "vote.py",
    ]
    assert (bundle.entry, bundle.title, bundle.lines) == ("vote.py", "A vote.", 6)


def test_a_folder_without_init_is_a_package_unless_a_module_has_its_name(tmp_path):
    tree(tmp_path, {"a.py": "import b, c", "b/x.py": "", "c.py": "", "c/y.py": ""})
    assert paths(Bundle.collect(tmp_path / "a.py")) == ["a.py", "b/x.py", "c.py"]


def test_the_collected_program_runs_where_it_is_unpacked(tmp_path):
    tree(
        tmp_path / "here",
        {"a.py": "import b\nprint(b.x, open('data/n').read())", "b.py": "x = 7", "data/n": "8"},
    )
    bundle = Bundle.collect(tmp_path / "here" / "a.py")
    Bundle.unpack(bundle.pack(), bundle.sha256).write_to(tmp_path / "there")
    done = subprocess.run(
        [sys.executable, "a.py"], check=True, cwd=tmp_path / "there", capture_output=True, text=True
    )
    assert done.stdout == "7 8\n"


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        ({}, "none.py", "There is no program"),
        ({"d/x": ""}, "d", "is not a file"),
        ({"a.py": "def ("}, "a.py", "line 1"),
        ({"a.py": "import b", "b.py": "x ="}, "a.py", "b.py"),
        ({"a.py": b"\0"}, "a.py", "not Python"),
        ({"a.py": "#" + "\n" * 3 + "(" * 5000 + ")" * 5000}, "a.py", "not Python"),
    ],
)
def test_what_is_no_program_is_refused_in_words(tmp_path, files, name, says):
    tree(tmp_path, files)
    with pytest.raises(LocalMisuse, match=says):
        Bundle.collect(tmp_path / name)


def test_a_program_beyond_the_limits_is_refused_before_its_data_is_read(tmp_path):
    tree(tmp_path, {"a.py": "", "data/1": "x", "data/2": "x"})
    with pytest.raises(LocalMisuse, match="too large"):
        Bundle.collect(tmp_path / "a.py", BundleLimits(files=2))
    with (tmp_path / "data" / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(LocalMisuse, match="too large"):
        Bundle.collect(tmp_path / "a.py")


@pytest.mark.parametrize("link", ["data/key", "helper.py", "data/folder"])
def test_a_link_to_elsewhere_sends_nothing_of_elsewhere(tmp_path, link):
    tree(
        tmp_path, {"here/a.py": "import helper", "here/data/x": "", "private": "secret", "folder/x": "secret"}
    )
    target = tmp_path / ("folder" if link.endswith("folder") else "private")
    (tmp_path / "here" / link).symlink_to(target)
    with pytest.raises(LocalMisuse, match="link"):
        Bundle.collect(tmp_path / "here" / "a.py")


def test_a_pipe_among_the_data_does_not_hang(tmp_path):
    tree(tmp_path, {"a.py": "", "data/x": ""})
    os.mkfifo(tmp_path / "data" / "pipe")
    with pytest.raises(LocalMisuse, match="not an ordinary file"):
        Bundle.collect(tmp_path / "a.py")


def test_a_title_cannot_paint_on_a_terminal(tmp_path):
    tree(tmp_path, {"a.py": '"""\x1b[2JHarmless\x07 title\u202e."""'})
    assert Bundle.collect(tmp_path / "a.py").title == "[2JHarmless title."


# -- the hash, and differences


def test_equal_programs_have_equal_hashes_and_packings_wherever_they_lie(tmp_path):
    files = {"a.py": "import b", "b.py": "", "data/x": "1"}
    one = Bundle.collect(tree(tmp_path / "one", files) / "a.py")
    two = Bundle.collect(tree(tmp_path / "two", dict(reversed(files.items()))) / "a.py")
    assert (one.sha256, one.pack()) == (two.sha256, two.pack())
    assert one == two
    assert line_differences(one, two, "in yours", "in theirs") == []


def test_differences_are_said_by_file(tmp_path):
    ours = Bundle.collect(tree(tmp_path / "1", {"a.py": "import b", "b.py": "", "data/x": "1"}) / "a.py")
    theirs = Bundle.collect(tree(tmp_path / "2", {"a.py": "import c", "c.py": "", "data/x": "1"}) / "a.py")
    assert ours.sha256 != theirs.sha256
    assert line_differences(ours, theirs, "in yours", "in theirs") == [
        "a.py, line 1, is 'import b' in yours and 'import c' in theirs",
        "b.py is there only in yours",
        "c.py is there only in theirs",
    ]


def test_another_entry_is_another_program(tmp_path):
    tree(tmp_path, {"a.py": "import b", "b.py": "import a"})
    one, two = Bundle.collect(tmp_path / "a.py"), Bundle.collect(tmp_path / "b.py")
    assert one.sha256 != two.sha256
    said = line_differences(one, two, "in yours", "in theirs")
    assert said == ["the file to start with is a.py in yours and b.py in theirs"]


# -- what a peer sends


def test_files_are_written_for_the_user_alone_and_never_over_others(tmp_path):
    bundle = Bundle.unpack(*packed({"a.py": b"pass", "data/x": b"1"}))
    bundle.write_to(tmp_path / "w")
    assert stat.S_IMODE((tmp_path / "w" / "a.py").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "w" / "data").stat().st_mode) == 0o700
    with pytest.raises(LocalMisuse):
        bundle.write_to(tmp_path / "w")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../b",
        "x/../../b",
        "x//b",
        "./b",
        "b/",
        "",
        "b\\c",
        "C:b",
        "b\0",
        "b\n",
        "b\x1b[2J",
        "con.",
        "x /b",
        "n" * 256,
        "\udc80",
    ],
)
def test_paths_that_leave_the_folder_or_mean_different_things_elsewhere_are_refused(path):
    header = json.dumps(
        {
            "entry": "a.py",
            "files": sorted(
                (
                    {"path": each, "sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
                    for each in ("a.py", path)
                ),
                key=lambda file: file["path"],
            ),
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    with pytest.raises(MessageError):
        Bundle.unpack(*packed({}, header=header))


@pytest.mark.parametrize(
    "files",
    [
        {"A.py": b"", "a.py": b""},  # one file on some platforms
        {"a.py": b"", "data": b"", "data/x": b""},  # a file and a folder of one name
        {"b.py": b""},  # no entry
        {"b.py": b"", "a.py": b""},  # not in order
    ],
)
def test_collections_that_cannot_be_written_are_refused(files):
    with pytest.raises(MessageError):
        Bundle.unpack(*packed(files))


def test_another_content_than_proposed_is_refused():
    blob, sha256 = packed({"a.py": b"good"})
    other, other_sha256 = packed({"a.py": b"evil"})
    with pytest.raises(MessageError, match="not the one"):
        Bundle.unpack(other, sha256)
    header = zlib.decompress(blob)[:-4]
    with pytest.raises(MessageError, match="not the one"):
        Bundle.unpack(zlib.compress(header + b"evil"), sha256)
    assert Bundle.unpack(other, other_sha256).contents["a.py"] == b"evil"


def test_a_bomb_is_not_unfolded():
    limits = BundleLimits(octets=1000)
    blob = zlib.compress(bytes(50_000_000))
    with pytest.raises(MessageError, match="too large"):
        Bundle.unpack(blob, "0" * 64, limits)


def test_a_cut_or_lengthened_packing_is_refused():
    blob, sha256 = packed({"a.py": b"pass"})
    for wrong in (blob[:-1], blob + b"x", b"", zlib.compress(b""), zlib.compress(b"\xff\xff\xff\xff")):
        with pytest.raises(MessageError):
            Bundle.unpack(wrong, sha256)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_unpacking_raise_anything_else(data, compress):
    plain = len(data).to_bytes(4, "big") + data
    blob = zlib.compress(plain) if compress else data
    with pytest.raises(MessageError):
        Bundle.unpack(blob, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    "header", ["[]", "{}", '{"entry":1,"files":[]}', '{"entry":"a","files":[{}]}', "[" * 9999]
)
def test_a_header_of_another_shape_is_refused(header):
    with pytest.raises(MessageError):
        Bundle.unpack(*packed({}, header=header.encode()))


def test_foreign_source_that_is_no_python_is_still_a_bundle():
    bundle = Bundle.unpack(*packed({"a.py": b"((((" * 100}))
    assert (bundle.title, bundle.lines) == ("", 1)
