"""Section 9: what a link takes from its peer. It has sent nothing itself."""

from . import frames
from .reading import Refused

VIOLATION = "e.p.session.frame"


class ReceivingLink:
    """Keeps every record that came, and works everything else out anew: clear, where an inbox is quick."""

    def __init__(self, window_records, window_bytes):
        self.window_records, self.window_bytes = window_records, window_bytes
        self.came = {}
        self.delivered = 0
        self.total = None
        self.contacts = self.ended = self.aborted = False

    def take(self, plaintext):
        read = frames.read(plaintext)
        records = {int(item["number"]): item for item in reversed(read) if item["type"] == "RECORD"}
        close = [int(item["records"]) for item in read if item["type"] == "CLOSE"]
        for ack in (item for item in read if item["type"] == "ACK"):
            if int(ack["next"]) > 0 or ack["ranges"]:
                raise Refused(VIOLATION)
        came = {**records, **self.came}
        following = next(number for number in range(len(came) + 1) if number not in came)
        if any(number >= self.delivered + self.window_records for number in records if number >= following):
            raise Refused(VIOLATION)
        early = [number for number in came if number > following]
        if set(early) - set(self.came):
            held = sum(len(came[number]["data"]) // 2 for number in early)
            if held > self.window_bytes:
                raise Refused(VIOLATION)
        total = self.total if self.total is not None else (close[0] if close else None)
        if total is not None and (any(number >= total for number in came) or close not in ([], [total])):
            raise Refused(VIOLATION)
        return self.apply(read, came, following, total)

    def apply(self, read, came, following, total):
        if self.aborted:
            return {"delivers": []}
        ready = [came[number] for number in range(self.delivered, following)]
        found = {"delivers": [{"start": item["start"], "data": item["data"]} for item in ready]}
        self.came, self.delivered, self.total = came, following, total
        if following == total and not self.ended:
            self.ended = found["ends"] = True
        for item in read:
            if item["type"] == "CONTACT" and not self.contacts:
                self.contacts = True
                found["proofs"] = item["proofs"][:1]
            elif item["type"] == "ABORT":
                self.aborted = True
                found["aborts"] = item["cause"]
        return found

    def ack(self):
        ranges = []
        for number in sorted(number for number in self.came if number > self.delivered):
            if ranges and ranges[-1][1] == number:
                ranges[-1][1] = number + 1
            else:
                ranges.append([number, number + 1])
        return {
            "next": str(self.delivered),
            "ranges": [[str(first), str(end)] for first, end in ranges[:32]],
            "closed": self.total is not None,
            "contacts": self.contacts,
        }
