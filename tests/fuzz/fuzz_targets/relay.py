"""The hop: its frames, and the capabilities that are granted for it."""

from collections.abc import Iterator

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.errors import MessageError, SessionError
from didmpc.protocols.message import Message
from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from fuzz_targets.target import Target, from_json, key, to_json

EXPORTER = bytes(32)


def hop_frame(data: bytes) -> None:
    """One frame: what is read is written back byte for byte, and no proof holds that was not made."""
    try:
        frame = hop.decode(data)
    except SessionError:
        return
    assert _encode(frame) == data
    if isinstance(frame, hop.Bind):
        try:
            hop.verify_bind(frame, EXPORTER)
        except SessionError:
            return
        assert frame.rebind_key == _rebind_key().public.raw
        assert frame == hop.bind(frame.channel, frame.capability, _rebind_key(), EXPORTER)


def _encode(frame: hop.Frame) -> bytes:
    match frame:
        case hop.Data(channel, packet):
            return hop.encode_data(channel, packet)
        case hop.Bind():
            return hop.encode_bind(frame)
        case hop.Bound(channel, credit):
            return hop.encode_bound(channel, credit)
        case hop.Unbound(channel, reason):
            return hop.encode_unbound(channel, reason)
        case hop.Credit(channel, count):
            return hop.encode_credit(channel, count)
        case hop.Error(channel, code):
            return hop.encode_error(channel, code)
        case hop.Ping(token):
            return hop.encode_ping(token)
        case hop.Pong(token):
            return hop.encode_pong(token)


def _rebind_key() -> PrivateKey:
    return key("rebind", "Ed25519")


def capability(data: bytes) -> None:
    """The body of each message of relay/1.0."""
    body = from_json(data)
    if not isinstance(body, dict):
        return
    for type, parse in (
        (relay_control.CHANNEL_CREATE, relay_control.parse_channel_create),
        (relay_control.CHANNEL_CREATED, relay_control.parse_channel_created),
        (relay_control.CHANNEL_REVOKE, relay_control.parse_channel_revoke),
    ):
        try:
            read = parse(Message(type=type, body=body))
        except MessageError:
            continue
        if type == relay_control.CHANNEL_CREATED:
            for channel in read:
                assert len(channel.near) == len(channel.far) == relay_control.CAPABILITY_SIZE
                assert "near=<secret>, far=<secret>" in repr(channel)


def _hop_seeds() -> Iterator[bytes]:
    yield hop.encode_data(1, b"packet")
    yield hop.encode_bind(hop.bind(2, bytes(32), _rebind_key(), EXPORTER))
    yield hop.encode_bound(3, 65536)
    yield hop.encode_unbound(3, hop.UnboundReason.LEFT)
    yield hop.encode_credit(3, 1)
    yield hop.encode_error(3, hop.ErrorCode.EXPIRED)
    yield hop.encode_ping(b"12345678")
    yield hop.encode_pong(b"12345678")


def _capability_seeds() -> Iterator[bytes]:
    secret = b64url(bytes(32))
    yield to_json({"count": 1, "expires": 2**31, "ids": ["a"]})
    yield to_json({"channels": [{"id": "a", "near": secret, "far": secret}], "expires": 1})


TARGETS = (
    Target("hop-frame", hop_frame, _hop_seeds, is_json=False),
    Target("capability", capability, _capability_seeds),
)
