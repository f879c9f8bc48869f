"""What is said of each step of a session: from events to sentences."""

import shlex
from collections.abc import Mapping
from typing import Any

from didmpc.agent.cli.words import duration, listing, milliseconds, plural, short_did, size

Event = Mapping[str, Any]

FILES_SHOWN = 12
NOT_VERIFIED = "not verified: compare the words that will be shown"
_DOES = {
    "computing": "whose program computes",
    "reading": "whose program waits for what is typed",
    "waiting": "whose program sleeps or waits for something of its own",
    "exited": "whose program has ended",
}
WORTH_SAYING = 5.0  # seconds that a run must have waited for somebody


def proposal(event: Event, *, host: bool, place: bool = True) -> list[tuple[str, str]]:
    """Who asks, what would be computed, by whom, what each learns and gives, how private it is; with styles.

    With `place` also what the program can do on this machine.
    """
    lines: list[tuple[str, str]] = [] if host else asker(event)
    if event.get("title"):
        lines.append((str(event["title"]), "bold"))
    lines += program(event)
    if event.get("arguments"):
        lines.append((f"Arguments: {shlex.join(str(each) for each in event['arguments'])}", ""))
    parties = [str(name) for name in event.get("parties") or []]
    places, least = event.get("places") or 0, event.get("least") or 0
    if places:
        parties.append(f"{places} who {'come' if places > 1 else 'comes'} by the link")
    if parties:
        enough = f" (at least {least} in all)" if least else ""
        lines.append((f"Parties: {listing(parties)}{enough}", ""))
    if not host and len(parties) + places > 2:
        introducer = event.get("from", "The host")
        lines.append((f"{introducer} introduces the others: only the words to compare prove them.", ""))
    lines += roles(event)
    lines += exchange(event)
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
    if event.get("settings"):
        lines.append((f"Set for all parties: {listing(sorted(event['settings']))}", ""))
    if event.get("mode") == "didcomm":
        lines.append(
            ("Mode didcomm: each message travels as an ordinary DIDComm message, which is slow.", "yellow")
        )
        lines.append(
            ("In that mode programs that wait for each other for ever are not found out: Ctrl-C.", "yellow")
        )
    elif event.get("wire") == "json":
        lines.append(("Packets travel as envelopes in JSON through the mailboxes: slower.", "yellow"))
    if event.get("trusted"):
        lines.append(("You trust this program: you said so before.", "green"))
    return lines + sandbox(event) if place else lines


def asker(event: Event) -> list[tuple[str, str]]:
    """Who asks, and how that is known."""
    name = str(event.get("from", "Somebody"))
    how = {
        "words": "your contact; you have compared words",
        "invitation": f"your contact by an invitation; {NOT_VERIFIED}",
        "link": f"whoever made the link that you were sent; {NOT_VERIFIED}",
    }.get(str(event.get("met")), NOT_VERIFIED)
    did = f" ({short_did(str(event['from_did']))})" if event.get("from_did") else ""
    return [
        (f"{name} invites you to compute.", "bold"),
        (f"{name}{did} is {how}.", "" if event.get("verified") else "yellow"),
    ]


def program(event: Event) -> list[tuple[str, str]]:
    """What runs: where it is from, each file with its size, lines and hash."""
    entry, files = str(event.get("program", "a program")), event.get("files") or []
    digest = f"sha256 {event['sha256']}" if event.get("sha256") else ""
    lines = [(f"Program: {entry}, {origin(event)}", "")]
    if not files and isinstance(event.get("lines"), int):
        lines[0] = (f"{lines[0][0]}, {plural(event['lines'], 'line')}", "")
    for file in files[:FILES_SHOWN]:
        long = plural(file["lines"], "line") if file.get("lines") else "no text"
        shown = f"- {file['path']}  {long}, {size(file['size'])}, sha256 {str(file['sha256'])[:16]}..."
        lines.append((shown, ""))
    if len(files) > FILES_SHOWN:
        rest = sum(file["size"] for file in files[FILES_SHOWN:])
        lines.append((f"- and {plural(len(files) - FILES_SHOWN, 'more file')}, {size(rest)}", ""))
    if digest:
        lines.append((f"- all together: {digest}", ""))
    return lines


def origin(event: Event) -> str:
    """Where a program is from, by the host's word."""
    source = event.get("source") or {}
    if source.get("kind") == "git":
        return f"{source.get('path')} of {source.get('repository')} at {str(source.get('commit'))[:12]}..."
    if source.get("kind") == "demo":
        return f"the demo {source.get('name')} of didmpc"
    return "a file of the host's"


def roles(event: Event) -> list[tuple[str, str]]:
    """Which roles there are, and who has which."""
    known, assigned = event.get("roles") or [], event.get("assigned") or {}
    lines = []
    for role in known:
        count = plural(len(role.get("pids") or []), "party", "parties")
        lines.append((f"Role {role['name']}: {count}; gives {_asked(role.get('asks'))}", ""))
    if assigned:
        said = [f"{name} is {_place(str(role))}" for name, role in assigned.items()]
        lines.append((f"Assigned: {listing(said)}", ""))
    if known and not event.get("your_role"):
        names = "|".join(str(role["name"]) for role in known)
        lines.append((f"Your role is what is left. To pick one: --role {names}  (who proposes: --as)", ""))
    return lines


def exchange(event: Event) -> list[tuple[str, str]]:
    """What a person learns and gives."""
    if "said_by" not in event:
        return []
    lines = []
    if event.get("your_role"):
        lines.append((f"Your role: {_place(str(event['your_role']))}", "bold"))
    said = {"host": " (says who proposes it)", "program": ""}.get(str(event["said_by"]), "")
    learns = [str(each) for each in event.get("you_learn") or [event.get("learns")] if each]
    gives = [_asked(each) for each in event.get("you_give") or [event.get("asks")]]
    silent = "the program does not say"
    lines.append((f"You learn: {' or '.join(learns) or silent}{said if learns else ''}", ""))
    lines.append((f"You give: {' or '.join(gives)}{said if gives != [silent] else ''}", ""))
    return lines


def _asked(ask: Any) -> str:
    words = str(ask.get("words") or "") if isinstance(ask, Mapping) else ""
    return words or "the program does not say"


def _place(role: str) -> str:
    return f"party {role}" if role.isdigit() else role


def session(found: Event) -> list[tuple[str, str]]:
    """One session as `didmpc session show` tells of it."""
    lines = proposal(found, host=found.get("state") != "proposed", place=False)
    for seat in found.get("seats") or []:
        role = f", {seat['role']}" if seat.get("role") else ""
        versions = ", ".join(f"{name} {version}" for name, version in sorted(seat["versions"].items()))
        lines.append((f"Party {seat['pid']}: {seat['name']}{role}  {short_did(seat['did'])}  {versions}", ""))
    if found.get("manifest_sha256"):
        lines.append((f"All have signed the manifest {found['manifest_sha256']}", ""))
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
        asked = f"{what}, {' and '.join(why for why, _ in gates)}? Type {words} to agree, s to read it:"
        return asked, frozenset({words})
    return f"Type s to read the program. {what}? [y/N]", frozenset({"y", "yes"})


def typed_input(event: Event) -> tuple[str, Any] | None:
    """The question for an input that is typed before the run, and what it must be; None if there is none."""
    asks = event.get("you_give") or []
    if len(asks) != 1 or asks[0].get("kind") not in ("number", "text"):
        return None
    return f"Your input, {asks[0]['words']}:", asks[0]


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
    by = f", by {event['mediator']}" if event.get("mediator") else ""
    said = {
        "asked": f"{name} was asked",
        "knocking": f"{name} wants to come in{by}",
        "deciding": f"{name} is here{by}, and looks at what is proposed",
        "joined": f"{name} is ready",
        "away": f"{name} does not answer any more; the place is kept for now",
        "back": f"{name} is back",
        "declined": f"{name} declined",
        "left": f"{name} left",
        "refused": f"{name} was sent away",
        "replaced": f"{name} was away for too long, and somebody else has the place",
        "offline": f"{name} is not here",
        "pausing": f"{name} will be back",
        "unreachable": f"{name} cannot be reached",
        "cut-off": "You are cut off",
        "reconnected": "You are connected again",
    }.get(str(state), f"{name}: {state}")
    styles = {"asked": "", "knocking": "bold", "deciding": ""}
    styles |= dict.fromkeys(("joined", "back", "reconnected"), "green")
    return (f"{said}: {why}" if why else f"{said}."), styles.get(str(state), "yellow")


def waiting(event: Event) -> str:
    """For whom, and how long still."""
    names = [str(name) for name in event.get("for") or []]
    left = event.get("seconds_left")
    until = f" ({duration(round(left))} left)" if isinstance(left, int | float) else ""
    if names == ["you"]:
        return f"All are ready: press Enter to begin{until}"
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
        return f"{wrote}, which {'is' if count == 1 else 'are'} gone now. To keep such:  --output DIR"
    problem = ended.get("files_problem")
    return f"{wrote}, which cannot be kept in {output}: {problem}." if problem else f"{wrote}: {output}"
