"""What a run has shown, from its raw log: what broke, what was promised, and what of it was kept."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any


def report(lines: Iterable[str]) -> list[str]:
    """Of the last run in a log; none where nothing came to its end."""
    events: list[dict[str, Any]] = []
    for line in lines:
        event = json.loads(line)
        events = [event] if event["event"] == "run" else [*events, event]
    said = []
    for title in dict.fromkeys(event["of"] for event in events if event["event"] == "end"):
        faults: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for event in events:
            if event["event"] == "end" and event["of"] == title:
                faults.update(event["faults"])
                count.update(event["count"])
        said += [
            f"{title}: {faults.total()} faults: "
            + ", ".join(f"{name} {n}" for name, n in sorted(faults.items())),
            f"  messages: {count['taken']:,} acknowledged to senders, {count['deliveries']:,} deliveries,"
            f" {count['acknowledged']:,} acknowledged by recipients",
            f"  lost {count['lost']}, came back {count['came back']}, twice {count['twice']}"
            f" ({count['crossed']} crossed; {count['refused']:,} refused and {count['unanswered']:,}"
            " not answered were sent again)",
        ]
        if count["computations"]:
            said.append(
                f"  computations: {count['computations']} begun, {count['right']} ended right;"
                f" one was under way in {count['faced']} faults"
            )
    found_out = [event["lie"] for event in events if event["event"] == "found out"]
    if found_out:
        said.append(f"lies that were found out: {', '.join(found_out)}")
    return said
