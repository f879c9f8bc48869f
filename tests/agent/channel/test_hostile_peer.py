"""A party whose program writes what it likes on its link: the run ends for all, who name it.

Real channel processes, links and programs; only the hostile party's program is of its own making.
"""

import asyncio

import pytest

HONEST = """
from mpyc.runtime import mpc

async def main():
    async with mpc:
        await mpc.output(mpc.SecInt(32)(1))
        await mpc.transfer(mpc.pid)

mpc.run(main())
"""

# Bob, to Alice and Carol. `send` puts bytes on the link to a party, in the place of MPyC's.
HOSTILE = """
import asyncio, os, pickle, struct
from mpyc.runtime import mpc

def message(label, payload=b"", size=None):
    return struct.pack("<qI", label, len(payload) if size is None else size) + payload

class Exploit:
    def __reduce__(self):
        return (os.mkdir, ("exploited",))

async def main():
    await mpc.start()
    def send(data):
        for pid in (0, 2):
            mpc.parties[pid].protocol.transport.write(data)
    {act}
    await asyncio.sleep(60)

mpc.run(main())
"""

# Bob is MPyC's client towards Carol, and begins with his pid and keys.
PRELUDE = """
from didmpc.agent.program.exchanger import Exchanger

def connection_made(self, transport):
    self.transport = transport
    if self.link_pid == 2:
        keys = b"".join(self.runtime._prss_keys_to_peer(2))
        transport.write({prelude})
        for label in range(1000):
            transport.write(bytes(range(256)))

Exchanger.connection_made = connection_made
"""

LIMITS = {"messages": 2000, "octets": 1_000_000}
soak = pytest.mark.soak

ACTS = [
    ("for n in range(1001): send(message(n))\n    send(message(1001) * 1001)", "under one label"),
    pytest.param("send(message(7, b'a') + message(7, b'b'))", "under one label", marks=soak),
    ("for n in range(3000): send(message(n))", "that nobody asked for"),
    pytest.param("for n in range(30): send(message(n, bytes(50_000)))", "nobody asked for", marks=soak),
    pytest.param("send(message(1, bytes(1_000_001)))", "announced a message", marks=soak),
    pytest.param("send(message(1, size=0xFFFFFFFF))", "announced a message of 4,294,967,295", marks=soak),
    pytest.param("send(bytes(range(256)) * 4000)", "announced a message", marks=soak),
]


@pytest.mark.parametrize(
    ("act", "why"),
    ACTS,
    ids=["a label twice, after many", "a label twice", "many", "much", "long", "lying length", "noise"],
)
async def test_what_no_party_may_send_ends_the_run_for_all_by_its_name(gather, act, why):
    hostile = HOSTILE.replace("{act}", act)
    table = await gather([HONEST, hostile, HONEST], config={"limits": LIMITS})
    ends = await asyncio.gather(*(table[pid].ended() for pid in (0, 2)))
    for ended in ends:
        assert not ended["ok"]
        assert ended["cause"]["party"] == "Bob", ended["cause"]
    assert any(why in str(ended["cause"]["why"]) for ended in ends), ends


UNPICKLED = """import mpyc.runtime
    mpyc.runtime.pickle = pickle
    await mpc.output(mpc.SecInt(32)(1))
    await mpc.transfer(Exploit())"""


async def test_a_pickle_in_place_of_a_value_ends_the_run_and_runs_no_code(gather, tmp_path):
    hostile = HOSTILE.replace("{act}", UNPICKLED)
    table = await gather([HONEST, hostile, HONEST], config={"limits": LIMITS})
    ends = await asyncio.gather(*(table[pid].ended() for pid in (0, 2)))
    assert {ended["cause"]["party"] for ended in ends} == {"Bob"}
    assert any("pickle" in ended["cause"]["why"] for ended in ends)
    assert not list(tmp_path.rglob("exploited"))


@pytest.mark.parametrize(
    "prelude",
    ["struct.pack('<H', 1) + keys[16:]", pytest.param("struct.pack('<H', 1) + keys + bytes(16)", marks=soak),
     pytest.param("struct.pack('<H', 0) + keys", marks=soak)],
    ids=["a key too few", "a key too many", "another's pid"],
)  # fmt: skip
async def test_keys_of_the_wrong_number_end_the_run_by_its_name(gather, prelude):
    hostile = HOSTILE.replace("{act}", "pass").replace(
        "async def main", PRELUDE.replace("{prelude}", prelude) + "\nasync def main"
    )
    table = await gather([HONEST, hostile, HONEST], config={"limits": LIMITS})
    ended = await table[2].ended()
    assert ended["cause"]["party"] == "Bob", ended["cause"]
