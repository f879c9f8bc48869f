"""A leg of the relay, and the ends of channels that it has bound: what waits, and what each may send."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.pace import Pace
from didmpc.mediator.store import ChannelEnd
from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import Established
from didmpc.protocols.session.packet import PacketOpener, PacketSealer, unsealed

MOST_NOTICES = 64
"""BOUND and UNBOUND that wait for one channel end; a leg that lets more gather is closed."""


class End:
    """One end of a channel while a leg has it bound."""

    __slots__ = (
        "_timer", "account", "allowance", "channel", "elsewhere", "epoch", "expires", "far", "former", "leg",
        "notices", "number", "owed", "pace", "piece", "queue", "queued", "reserved", "scheduled", "side",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        leg: "Leg",
        number: int,
        found: ChannelEnd,
        pace: Pace | None = None,
        *,
        epoch: int = 0,
        elsewhere: bool = False,
    ) -> None:
        self.leg = leg
        self.epoch = epoch  # of its bind
        self.elsewhere = elsewhere  # it stands in for an end at another node
        self.number = number
        self.channel = found.channel
        self.side = found.side
        self.expires = found.expires
        self.account = found.account
        self.far: End | None = None
        self.window = 0  # credit of this end when nothing is on its way
        self.piece = 0  # credit is given in pieces of at least so much
        self.allowance = 0  # what it may still send
        self.former = 0  # of that, from before the last BOUND: it may be used, or forgotten
        self.owed = 0  # may be given as credit: went out on the far side, or held back by the pace
        self.pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self.queue: deque[tuple[bytearray, int]] = deque()  # unsealed packets, and their cost in credit
        self.queued = 0  # credit in the queue
        self.reserved = 0  # memory set aside for the queue
        self.notices = 0
        self.scheduled = False

    def grant(self, most: int, now: float) -> int:
        """As much credit of `most` as the pace allows at once; the rest is owed."""
        granted = most
        if self.pace is not None:
            most = min(most, self.pace.burst)
            granted = max(0, min(most, self.pace.level(now)))
        self.owed = most - granted
        return granted

    def spend(self, count: int, now: float) -> None:
        """Bytes came from this end and are passed on."""
        self.allowance -= count
        if self.former:
            self.former = min(self.former, self.allowance)
        if self.pace is not None:
            self.pace.spend(count, now)

    def due(self) -> int:
        """What of the owed credit is given now, which is counted as given; the rest comes in time."""
        granted = self.owed if self.pace is None else self._due_by(self.pace)
        if granted < self.piece:
            granted = 0
        self.owed -= granted
        self.allowance += granted
        if self.pace is not None and self.owed >= self.pace.piece and not self.notices:
            target = self.allowance - self.former + self.pace.piece
            self._call_after(self.pace.seconds_until(target, time.monotonic()))
        return granted

    def _due_by(self, pace: Pace) -> int:
        if self.notices:
            return 0  # a BOUND that is on its way would void it
        return min(self.owed, pace.level(time.monotonic()) - (self.allowance - self.former))

    def pay(self) -> None:
        """Give what is due, where nobody waits for it to be written."""
        granted = self.due() if self.leg.ends.get(self.number) is self else 0
        if granted:
            self.leg.queue_control(hop.encode_credit(self.number, granted))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _call_after(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.pay)


class Leg:
    """One WebSocket with a hop session: opens what comes, seals and writes what goes out.

    `write` sends one binary message and returns when the socket takes more. While `has_room(n)` says that n
    bytes need not wait, `write_now` does the same at once. `abort` closes the socket, whose reader then calls
    `Relay.leave`.
    """

    def __init__(
        self,
        established: Established,
        *,
        write: Callable[[bytearray], Awaitable[None]],
        write_now: Callable[[bytearray], None],
        has_room: Callable[[int], bool],
        abort: Callable[[str], None],
        limits: Limits,
        address: str,
    ) -> None:
        self._sealer = PacketSealer(established.secret_send, established.sid_out, ordered=True)
        self.open = PacketOpener(established.secret_receive, established.sid_in).open_in_place
        """The frame that a packet holds, in its place. Raises `SessionError`."""
        self._write = write
        self._write_now = write_now
        self._has_room = has_room
        self._limits = limits
        self._control: deque[bytearray] = deque()
        self._turn: deque[End] = deque()
        self._writing = False
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._keep_writing())
        self.abort = abort
        self.address = address
        self.exporter = established.exporter
        self.ends: dict[int, End] = {}
        self.former: set[int] = set()  # numbers that were bound here: late packets for them are no fault
        self.patience: asyncio.TimerHandle | None = None

    def close(self) -> None:
        self._writer.cancel()
        if self.patience is not None:
            self.patience.cancel()
        self._control.clear()
        self._turn.clear()

    def control(self, frame: bytes) -> None:
        """Send a control frame, ahead of all packets."""
        if self._idle and self._has_room(len(frame)):
            self._send_now(unsealed(frame), time.monotonic())
        else:
            self.queue_control(frame)

    def queue_control(self, frame: bytes) -> None:
        if len(self._control) >= self._limits.leg_control_frames:
            self.abort("does not read what it asks for")
        else:
            self._control.append(unsealed(frame))
            self._wake.set()

    def pass_on(self, end: End, packet: bytearray, cost: int, now: float) -> bool:
        """Pass an opened DATA packet on to `end`; whether it is on its way (else it and its credit wait)."""
        if not (self._writing or self._control or self._turn) and self._has_room(len(packet)):
            self._send_now(packet, now)
            return True
        self._queue(end, packet, cost)
        return False

    def notice(self, end: End, frame: bytes) -> None:
        """Say BOUND or UNBOUND, after the packets that came before it."""
        end.notices += 1
        if end.notices > MOST_NOTICES:
            self.abort("does not read")
            return
        self._queue(end, unsealed(frame), 0)

    @property
    def _idle(self) -> bool:
        return not (self._writing or self._control or self._turn)

    def _queue(self, end: End, packet: bytearray, cost: int) -> None:
        end.queue.append((packet, cost))
        end.queued += cost
        if not end.scheduled:
            end.scheduled = True
            self._turn.append(end)
        self._wake.set()

    async def _keep_writing(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._writing = True
            while self._control or self._turn:
                if self._control:
                    await self._send(self._control.popleft())
                else:
                    await self._send_next(self._turn.popleft())
            self._writing = False

    async def _send_next(self, end: End) -> None:
        if not end.queue:  # its channel was closed meanwhile
            end.scheduled = False
            return
        packet, cost = end.queue.popleft()
        if end.queue:
            self._turn.append(end)
        else:
            end.scheduled = False
        await self._send(packet)
        if not cost:
            end.notices -= 1
            if end.pace is not None:
                end.pay()
            return
        end.queued -= cost
        if end.far is not None and not end.elsewhere:
            give_back(end.far, cost)

    async def _send(self, packet: bytearray) -> None:
        try:
            self._sealer.seal_in_place(packet, time.monotonic())
            await self._write(packet)
        except ConnectionError:
            self.abort("is gone")
        except SessionError as error:
            self.abort(error.what)

    def _send_now(self, packet: bytearray, now: float) -> None:
        try:
            self._sealer.seal_in_place(packet, now)
            self._write_now(packet)
        except ConnectionError:
            self.abort("is gone")
        except SessionError as error:
            self.abort(error.what)


def give_back(end: End, count: int) -> None:
    """The far socket took so many bytes of this end; credit goes back in large pieces."""
    end.owed += count
    if end.leg.ends.get(end.number) is not end:
        return  # its channel was closed meanwhile
    if granted := end.due():
        end.leg.control(hop.encode_credit(end.number, granted))
