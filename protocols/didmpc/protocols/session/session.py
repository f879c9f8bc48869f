"""One session of a link: the keys of one handshake, in use.

A link has one session that speaks, perhaps a newer one that is not confirmed yet, and for a moment the
one before (docs/session-extension.md, "A new session on the same link").
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.session import packet, packet_json
from didmpc.protocols.session.handshake import WIRE_JSON, Established
from didmpc.protocols.session.packet import Aead, EpochLimits, PacketOpener, PacketSealer
from didmpc.protocols.session.packet_json import JsonOpener, JsonSealer


class Session:
    """Both directions of one session, in its wire form."""

    def __init__(
        self,
        established: Established,
        *,
        now: float,
        epoch: EpochLimits,
        aead: Callable[[bytes], Aead] = AESGCM,
    ) -> None:
        self.wire = established.wire
        self.sid_in = established.sid_in
        self.initiator = established.role == "initiator"
        self.since = now
        self.heard = False
        """Whether a valid packet of the peer has come in it: then both sides have the keys."""
        as_json = established.wire == WIRE_JSON
        opener, sealer = (JsonOpener, JsonSealer) if as_json else (PacketOpener, PacketSealer)
        self.opener = opener(established.secret_receive, established.sid_in, aead=aead)
        self._sealer: PacketSealer | None = sealer(
            established.secret_send, established.sid_out, limits=epoch, aead=aead
        )
        self.seal: Callable[[bytes, float], bytes] = self._sealer.seal
        """One packet of a plaintext, at a time. Not after `retire`."""
        self.seal_in_place = None if isinstance(self._sealer, JsonSealer) else self._sealer.seal_in_place
        """The same for a packet to be (`packet.unsealed`); None in the JSON form."""
        self.largest_plaintext = packet_json.largest_plaintext if as_json else packet.largest_plaintext
        self._sealed = 0

    def __repr__(self) -> str:
        return f"<Session sealed={self.sealed} heard={self.heard}>"

    @property
    def sealed(self) -> int:
        """How many packets were sealed: the number of the next one."""
        return self._sealed if self._sealer is None else self._sealer.number

    @property
    def epoch(self) -> int:
        """Of what is sealed now."""
        return -1 if self._sealer is None else self._sealer.epoch

    def acknowledged(self, number: int) -> None:
        """The peer has the packet of that number."""
        if self._sealer is not None:
            self._sealer.acknowledged(number)

    def retire(self) -> None:
        """Forget the keys to seal with: from now on it only opens what is still on its way."""
        if self._sealer is not None:
            self._sealed = self._sealer.number
            self._sealer = None
            self.seal = _retired
            self.seal_in_place = None


def _retired(plaintext: bytes, now: float) -> bytes:
    raise LocalMisuse("A session that was retired seals nothing.")
