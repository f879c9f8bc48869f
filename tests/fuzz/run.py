"""Fuzz one target with atheris:  python tests/fuzz/run.py TARGET [libFuzzer options]

It starts from tests/fuzz/corpus/TARGET. What it finds worth keeping goes to .cache/fuzz/TARGET/, and an
input that breaks something to .cache/fuzz/TARGET-crash-...: mend the reader, put the input into the corpus.
`--seeds` writes what the target starts from into the corpus; merge.py takes over what was found.
"""

import hashlib
import logging
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BOUNDS = ("-max_len=16384", "-len_control=0", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1")
"""Bytes of an input; seconds and megabytes beyond which it counts as a finding."""

for path in (HERE, *(ROOT / name for name in ("agent", "local", "mediator", "protocols"))):
    sys.path.insert(0, str(path))


def main() -> None:
    name, *options = sys.argv[1:] or [""]
    sys.argv[1:] = []  # MPyC reads the command line when it is imported
    logging.disable(logging.ERROR)  # what is refused is logged
    home = ROOT / ".cache" / "fuzz" / "tmp" / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    tempfile.tempdir = str(home)  # libFuzzer ends without cleaning up
    import atheris
    from json_mutator import mutate

    with atheris.instrument_imports(include=["didmpc"]):
        from fuzz_targets import TARGETS
    target = TARGETS.get(name)
    if target is None:
        sys.exit(f"Name one of these targets: {', '.join(TARGETS)}")
    corpus, found = HERE / "corpus" / name, ROOT / ".cache" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    if options == ["--seeds"]:
        for seed in target.seeds():
            (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        return

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        changed = mutate(data, max_size, seed) if seed % 4 else None
        return atheris.Mutate(data, max_size) if changed is None else changed

    arguments = [sys.argv[0], *BOUNDS, f"-artifact_prefix={found}-", *options, str(found), str(corpus)]
    atheris.Setup(arguments, target.run, custom_mutator=mutator if target.is_json else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
