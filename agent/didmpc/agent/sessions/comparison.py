"""The words of a session: kept as long as the session is, compared by people, and what that proves.

Words that match prove the session DIDs of all parties. A contact is proven by its pair secret, inside the
session, and by nothing else: somebody in between may pass on a whole session and still hold the contact's
place. So words that match verify those contacts that have proven themselves in this session, and no others.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from didmpc.agent.contacts.contacts import Contact, Contacts
from didmpc.agent.sessions.history import History
from didmpc.protocols.errors import LocalMisuse

DIFFER = "The words that its people read to each other differ: somebody may stand between them."


class Comparison:
    """The words of all sessions that are not forgotten."""

    def __init__(self, history: History, contacts: Contacts) -> None:
        self._history = history
        self._contacts = contacts

    def keep(
        self,
        attempt: str,
        words: Sequence[str],
        *,
        me: int,
        names: Sequence[str],
        without_session: Sequence[int],
    ) -> None:
        """All have revealed: these are the words. `names[pid]` is what we call party `pid`."""
        self._history.note(
            attempt, words=list(words), me=me, names=list(names), without_session=list(without_session)
        )

    def proven(self, attempt: str, pid: int, contact: Contact) -> None:
        """A party has proven to be this contact, inside its session with us."""
        known = (self._history.find(attempt) or {}).get("proven", {})
        self._history.note(attempt, proven={**known, str(pid): contact.did})

    def shown(self, wanted: str | None) -> dict[str, Any]:
        """The words of the session that is wanted (the beginning of its name), or of the newest one."""
        entry = self._find(wanted)
        compared = entry.get("compared") or {}
        return {
            "attempt": entry["attempt"],
            "title": entry.get("title") or entry.get("program") or "",
            "state": entry["state"],
            "started": entry.get("started"),
            "words": entry["words"],
            "matched": compared.get("matched"),
            "compared_at": compared.get("at"),
            "parties": [
                self._party(pid, name, entry, compared.get("matched") is True)
                for pid, name in enumerate(entry["names"])
            ],
        }

    async def record(self, wanted: str, *, matched: bool) -> dict[str, Any]:
        """What the people found: the parties are verified, or somebody stands between them."""
        entry = self._find(wanted)
        at = int(time.time())
        self._history.note(entry["attempt"], compared={"matched": matched, "at": at})
        if matched:
            for did in entry.get("proven", {}).values():
                contact = self._contacts.by_did(did)
                if contact is not None:
                    await self._contacts.verified(contact, at)
        return self.shown(entry["attempt"])

    def _find(self, wanted: str | None) -> Mapping[str, Any]:
        with_words = [entry for entry in self._history.list() if entry.get("words")]
        found = [entry for entry in with_words if wanted is None or entry["attempt"].startswith(wanted)]
        running = [entry for entry in found if entry["state"] == "running"]
        if wanted is None and found:
            if len(running) > 1:
                raise LocalMisuse(
                    f"{len(running)} sessions run now.",
                    why="Each has words of its own.",
                    fix="Name one of them (see  didmpc sessions):  didmpc session verify "
                    + running[0]["attempt"][:8],
                )
            return (running or found)[0]
        if len(found) == 1:
            return found[0]
        if found:
            raise LocalMisuse(f"Several sessions begin with {wanted}.", fix="Write more of its name.")
        if wanted is None:
            raise LocalMisuse(
                "No session has words to compare yet.",
                why="They are there once all parties have come and signed.",
                fix="See what runs:  didmpc sessions",
            )
        raise LocalMisuse(
            f"No session with words begins with {wanted}.",
            why="It is unknown here, or not all parties have signed it.",
            fix="See them:  didmpc sessions",
        )

    def _party(self, pid: int, name: str, entry: Mapping[str, Any], matched: bool) -> dict[str, Any]:
        """One party: who it is to us, and by what that is known.

        `how`: you | words | contact (proven, but no words compared) | unproven. `doubt`: one of our contacts
        has this name, and the party did not prove to be it.
        """
        party: dict[str, Any] = {"pid": pid, "name": name, "contact": None, "doubt": False}
        if pid == entry["me"]:
            return {**party, "how": "you"}
        did = entry.get("proven", {}).get(str(pid))
        contact = None if did is None else self._contacts.by_did(did)
        if contact is not None:
            party["contact"] = contact.name
            party["verified_at"] = contact.verified_at or None
        elif pid not in entry["without_session"]:
            party["doubt"] = any(name.casefold() == known.name.casefold() for known in self._contacts.all())
        how = "words" if matched else "contact" if contact is not None else "unproven"
        return {**party, "how": how}
