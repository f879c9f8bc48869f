"""What is said of each step of a session: from events to sentences."""

import shlex
from collections.abc import Mapping
from typing import Any

from didmpc.agent.cli.words import duration, listing, milliseconds, plural, size

Event = Mapping[str, Any]

_DOES = {
    "computing": "whose program computes",
    "reading": "whose program waits for what is typed",
    "waiting": "whose program sleeps or waits for something of its own",
    "exited": "whose program has ended",
}
WORTH_SAYING = 5.0  # seconds that a run must have waited for somebody


def proposal(event: Event, *, host: bool, place: bool = True) -> list[tuple[str, str]]:
    """What would be computed, by whom, and how private it is: lines, each with a style.

    With `place` also what the program can do on this machine.
    """
    program = f"{event.get('program', 'a program')}"
    details = []
    if isinstance(event.get("lines"), int):
        details.append(plural(event["lines"], "line"))
    others = len(event.get("files") or []) - 1
    if others > 0:
        details.append(f"with {plural(others, 'more file')}")
    if event.get("sha256"):
        details.append(f"sha256 {str(event['sha256'])[:12]}...")
    if details:
        program += f" ({', '.join(details)})"
    lines: list[tuple[str, str]] = []
    if not host:
        known = "" if event.get("verified") else " (not verified: compare the words that will be shown)"
        lines.append((f"{event.get('from', 'Somebody')} invites you to compute{known}:", "bold"))
    if event.get("title"):
        lines.append((str(event["title"]), "bold"))
    lines.append((program, ""))
    if event.get("arguments"):
        lines.append((f"Arguments: {shlex.join(str(each) for each in event['arguments'])}", ""))
    parties = [str(name) for name in event.get("parties") or []]
    if parties:
        lines.append((f"Parties: {listing(parties)}", ""))
    if not host and len(parties) > 2:
        introducer = event.get("from", "The host")
        lines.append((f"{introducer} introduces the others: only the words to compare prove them.", ""))
    lines.append(privacy(event))
    if event.get("no_prss"):
        lines.append(("Without PRSS (--no-prss): no keys for it, and more rounds.", ""))
    elif event.get("prss_bytes"):
        lines.append(
            (
                f"Keys of pseudorandom secret sharing: {size(event['prss_bytes'])} at each party, "
                "as there are so many. Propose it with --no-prss to do without.",
                "yellow",
            )
        )
    if event.get("free_threshold"):
        lines.append(
            ("The program may lower the threshold itself: read it to know who can see what.", "bold yellow")
        )
    if event.get("mode") == "didcomm":
        lines.append(
            ("Mode didcomm: each message travels as an ordinary DIDComm message, which is slow.", "yellow")
        )
    elif event.get("wire") == "json":
        lines.append(("Packets travel as envelopes in JSON through the mailboxes: slower.", "yellow"))
    return lines + sandbox(event) if place else lines


def session(found: Event) -> list[tuple[str, str]]:
    """One session as `didmpc session show` tells of it."""
    lines = proposal(found, host=found.get("state") != "proposed", place=False)
    lines.append((f"Session {found.get('attempt', '')}: {found.get('state', 'unknown')}", "bold"))
    if found.get("cause"):
        lines.append((str(found["cause"]), "yellow"))
    return lines


def sandbox(event: Event) -> list[tuple[str, str]]:
    """What the program can do on this machine, and what no sandbox can keep it from."""
    mechanism = str(event.get("sandbox", "none"))
    if mechanism == "none":
        lines = [
            (
                "NO SANDBOX: the program runs as you. It can read, change and send away all your files, with",
                "bold red",
            ),
            ("your agent's keys, and connect to anything that you can.", "bold red"),
        ]
        if event.get("sandbox_why") and not event.get("sandbox_refused"):
            lines.append((f"{event['sandbox_why']} {event.get('sandbox_fix') or ''}".rstrip(), "yellow"))
        return lines
    confined = f"Locked in ({mechanism}): no network, no file of yours but its input."
    return [
        (confined, ""),
        (
            "No sandbox can keep it from sending your input to the other parties: know the program, or them.",
            "yellow",
        ),
    ]


def lacks_sandbox(event: Event) -> bool:
    """Whether the person who agrees to this agrees to a program that is not locked in."""
    return str(event.get("sandbox", "none")) == "none"


def lacks_privacy(event: Event) -> bool:
    """Whether the person agrees to being read by any other party, and has not said so before."""
    threshold = event.get("threshold")
    return isinstance(threshold, int) and threshold < 1 and not event.get("privacy_waived")


def question(event: Event, *, host: bool) -> tuple[str, frozenset[str]]:
    """What the person is asked, and the answers that mean yes."""
    what = "Propose this" if host else "Take part"
    gates = []
    if lacks_sandbox(event) and not event.get("sandbox_refused"):
        gates.append(("with all your files open to this program", "unlocked"))
    if lacks_privacy(event):
        gates.append(("with nothing kept private", "not private"))
    if gates:
        words = ", ".join(word for _, word in gates)
        return f"{what}, {' and '.join(why for why, _ in gates)}? Type {words} to agree:", frozenset({words})
    return f"{what}? [y/N]", frozenset({"y", "yes"})


def privacy(event: Event) -> tuple[str, str]:
    """How many parties must work together to see what others put in."""
    m, threshold = event.get("m"), event.get("threshold")
    if not isinstance(m, int) or not isinstance(threshold, int):
        return "How private this is was not said.", "yellow"
    if threshold < 1:
        alone = "the other one" if m == 2 else "any other party"
        return (
            f"{plural(m, 'party', 'parties')}, threshold 0: NOTHING STAYS PRIVATE. "
            f"What you put in can be read by {alone}.",
            "bold yellow",
        )
    unless = event.get("private_unless")
    together = unless if isinstance(unless, int) else threshold + 1
    return (
        f"{plural(m, 'party', 'parties')}, threshold {threshold}: private unless {together} work together.",
        "",
    )


def party(event: Event) -> tuple[str, str]:
    """One party's step while people gather."""
    name, state, why = str(event.get("name", "Somebody")), event.get("state"), str(event.get("why") or "")
    said = {
        "asked": f"{name} was asked.",
        "joined": f"{name} is ready.",
        "declined": f"{name} declined",
        "left": f"{name} left",
    }.get(str(state), f"{name}: {state}")
    if state in {"declined", "left"}:
        return (f"{said}: {why}" if why else f"{said}."), "yellow"
    return said, "green" if state == "joined" else ""


def waiting(event: Event) -> str:
    """For whom, and how long still."""
    names = [str(name) for name in event.get("for") or []]
    left = event.get("seconds_left")
    until = f" ({duration(round(left))} left)" if isinstance(left, int | float) else ""
    return f"Waiting for {listing(names) if names else 'a proposal'}{until}"


def stalled(event: Event) -> str:
    """For whom the running program waits; nothing while that is too short to mention."""
    seconds = event.get("seconds")
    names = [str(name) for name in event.get("for") or []]
    if not names or not isinstance(seconds, int | float) or seconds < WORTH_SAYING:
        return ""
    ends = event.get("held_up_by")
    held_up_by = [
        f"{name}, {_DOES[str(state)]}" if str(state) in _DOES else str(name)
        for name, state in (ends if isinstance(ends, dict) else {}).items()
    ]
    in_the_end = f": {'; '.join(held_up_by)}" if held_up_by else ""
    return f"The run waits for {listing(names)}{in_the_end} ({duration(seconds)})"


def deadlock(event: Event) -> str:
    """All programs wait for each other, or do so no more."""
    if event.get("over"):
        return "It was no deadlock: the run goes on."
    left = event.get("seconds_left")
    ends = f" In {duration(round(left))} that ends the run." if isinstance(left, int | float) else ""
    return f"Suspected deadlock: {event.get('why') or 'every program waits for another'}.{ends}"


def words(event: Event) -> str:
    """What people compare over another channel."""
    said = " ".join(str(word) for word in event.get("words") or [])
    return f"All here. Compare these words with the others:  {said}   (didmpc session verify)"


def peer(event: Event) -> tuple[str, str]:
    """What became of the connection to one party."""
    name, state = str(event.get("name", "A party")), event.get("state")
    if state == "connected":
        away = (
            f", {milliseconds(event['rtt_ms'])} away" if isinstance(event.get("rtt_ms"), int | float) else ""
        )
        return f"{name} is connected{away}.", ""
    if state == "back":
        return f"{name} is back; nothing was lost.", "green"
    if state == "unreachable":
        left = event.get("seconds_left")
        limit = f", for {duration(round(left))} at most" if isinstance(left, int | float) else ""
        return f"{name} is unreachable; the run waits{limit}.", "yellow"
    return f"{name}: {state}", ""


def recognised(event: Event) -> str:
    """A party is one of our contacts, whoever introduced it."""
    name, contact = str(event.get("name", "A party")), str(event.get("contact", ""))
    known_as = "known contact" if name == contact else f"your contact {contact}"
    return f"{name}: {known_as}, proven inside this session."


def done(stats: Event, parties: int) -> str:
    """The last line of a run that succeeded."""
    facts = [plural(parties, "party", "parties")] if parties else []
    if isinstance(stats.get("rounds"), int):
        facts.append(plural(stats["rounds"], "round"))
    if isinstance(stats.get("bytes"), int | float):
        facts.append(size(stats["bytes"]))
    if isinstance(stats.get("crypto_us_per_message"), int | float):
        facts.append(f"{stats['crypto_us_per_message']:,.1f} us of cryptography per message")
    seconds = stats.get("seconds")
    took = f"Done in {duration(seconds)}" if isinstance(seconds, int | float) else "Done"
    return f"{took}: {', '.join(facts)}" if facts else f"{took}."


def receipt(path: str | None, facts: Event, *, lost: bool) -> list[tuple[str, str]]:
    """Where the receipt is, and who has not signed it."""
    if path is None:
        if not lost:
            return [
                ("The receipt was not waited for. When all have signed:  didmpc session receipt", "yellow")
            ]
        return [("No receipt: your agent stopped before all could sign one. The result stands.", "yellow")]
    lines = [(f"Receipt:  didmpc verify {shlex.quote(path)}", "")]
    missing = [str(name) for name in facts.get("missing") or []]
    if missing and not facts.get("complete"):
        lines.append(
            (
                f"Not signed by {listing(missing)} yet. For two minutes more your agent adds what comes "
                "(didmpc session receipt).",
                "yellow",
            )
        )
    return lines + [(str(problem), "yellow") for problem in facts.get("problems") or []]


def files(ended: Event, output: str | None) -> str:
    """What became of the files that the program wrote; nothing where there are none."""
    count = ended.get("files")
    if not isinstance(count, int) or count < 1:
        return ""
    wrote = f"The program wrote {plural(count, 'file')}"
    if output is None:
        return f"{wrote}, which are gone now. To keep such:  --output DIR"
    problem = ended.get("files_problem")
    return f"{wrote}, which cannot be kept in {output}: {problem}." if problem else f"{wrote}: {output}"
