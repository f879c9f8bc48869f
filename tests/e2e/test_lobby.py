"""From a link to a result on the real command line: who joins types one command and has nothing before."""

import json
import os
import time
from pathlib import Path

from didmpc.agent.sandbox.choice import choose
from didmpc.bench.cluster import Cluster, Party

PATIENCE = 120.0


def wait_for(path: Path) -> str:
    """The content of a file that a process is to write."""
    until = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text().strip()


def test_a_link_is_all_that_two_newcomers_need(cluster: Cluster, steps: Path, tmp_path: Path) -> None:
    host, file = cluster.parties[0], tmp_path / "link"
    newcomers = [Party(name, cluster.directory / name, cluster, mediator=0) for name in ("dora", "emil")]
    flags = ["--yes", "--json", *([] if choose(Path.home() / ".didmpc") else ["--no-sandbox"])]
    run = host.start("run", steps, "--parties", "3", "--invitation-file", file, *flags, "--", "3", "0")
    link = wait_for(file)
    assert len(link) <= 300
    assert os.stat(file).st_mode & 0o077 == 0
    joining = [person.start("join", link, "--label", person.name, *flags) for person in newcomers]
    results = [each.done(PATIENCE).json() for each in (run, *joining)]
    assert all(result["ok"] for result in results)
    assert sorted(results[0]["parties"]) == sorted([host.name, "dora", "emil"])
    assert len({json.dumps(sorted(result["parties"])) for result in results}) == 1

    # Whoever comes later is told why not; a link that makes contacts is another thing.
    late = newcomers[0].start("join", link, *flags).wait(PATIENCE)
    assert late.status == 1
    assert "begun without you" in late.stderr
    wrong = newcomers[0].start("accept", link).wait(PATIENCE)
    assert wrong.status == 1
    assert "didmpc join" in wrong.stderr
    listed = host.didmpc("invite", "--list", "--json").json()["invitations"]
    assert [each["state"] for each in listed if each["for"] == "computation"] == ["begun"]
