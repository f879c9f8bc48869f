"""What one message of 64 bytes costs in cryptography: `make bench`, or `python -m didmpc.bench.messages`.

Three ways to carry the same record from one party over a mediator to another, measured side by side:

session   sealed in a packet and opened (`session/1.0`): `--mode session`
didcomm   an ordinary DIDComm message, authcrypt, forward, the mediator's unwrap, unpack: `--mode didcomm`
pypi      the same with `didcomm` and `peerdid` of the Python Package Index, in an environment of their own

CPU time of all who take part, without sockets. The legs alternate, so that a busy machine slows all of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from didmpc.bench.sealing import seal_open_us
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.mpc.messages import FRAME
from didmpc.protocols.routing import parse_forward, route

ROOT = Path(__file__).resolve().parents[3]
PYPI_PYTHON = ROOT / ".cache" / "interop" / "pypi_didcomm" / "bin" / "python"
PYPI_SCRIPT = ROOT / "bench" / "pypi_didcomm.py"

RECORD = 64
LEGS = 5
SAMPLES = 100
# How many times a session must be cheaper at least.
TARGETS = {"pypi": 100, "didcomm": 25}


class DidcommMode:
    """Alice, her mediator's colleague and Bob, as `--mode didcomm` connects them."""

    def __init__(self) -> None:
        self._mediator = Identity.peer2(
            [Service("https://mediator.example"), Service("wss://mediator.example/ws", id="#service-1")]
        )
        behind = [Service(self._mediator.did)]
        self._alice, self._bob = Identity.peer4(behind), Identity.peer4(behind)
        self._mediators_keys, self._bobs_keys = Identities(), Identities()
        self._mediators_keys.add(self._mediator)
        self._bobs_keys.add(self._bob)

    def carry(self, number: int, record: bytes) -> bytes:
        """One record, all the way."""
        frame = Message(
            type=FRAME,
            from_=self._alice.did,
            to=(self._bob.did,),
            body={"n": number, "start": 1},
            attachments=(Attachment(id="0", data_base64=record),),
        )
        outbound = route(pack_authcrypt(frame, self._alice, self._bob.document), self._bob.document)
        forward = parse_forward(unpack(outbound.envelope, self._mediators_keys).message)
        opened = unpack(forward.envelopes[0], self._bobs_keys)
        assert opened.authenticated
        data = opened.message.attachments[0].data_base64
        assert data is not None
        return data

    def microseconds(self, samples: int = SAMPLES) -> float:
        """The median CPU time of one record."""
        record = os.urandom(RECORD)
        spent = []
        for number in range(samples):
            started = time.process_time_ns()
            carried = self.carry(number, record)
            spent.append((time.process_time_ns() - started) / 1000)
            assert carried == record
        return statistics.median(spent)


def pypi_microseconds() -> float:
    """The median CPU time of one record with PyPI `didcomm`."""
    done = subprocess.run(
        [PYPI_PYTHON, "-W", "ignore", PYPI_SCRIPT, str(RECORD), str(SAMPLES)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"PyPI didcomm could not be measured:\n{done.stderr}")
    return float(json.loads(done.stdout)["us"])


def measure(*, with_pypi: bool) -> dict[str, Any]:
    """Microseconds of each way, and how many times a session is cheaper."""
    ours = DidcommMode()
    legs: dict[str, list[float]] = {"session": [], "didcomm": []}
    if with_pypi:
        legs["pypi"] = []
    ours.microseconds(10)  # imports and caches
    for _ in range(LEGS):
        legs["session"].append(seal_open_us(RECORD, 0.2))
        legs["didcomm"].append(ours.microseconds())
        if with_pypi:
            legs["pypi"].append(pypi_microseconds())
    us = {name: statistics.median(values) for name, values in legs.items()}
    ratios = {name: us[name] / us["session"] for name in us if name != "session"}
    return {
        "record_bytes": RECORD,
        "us": {name: round(value, 2) for name, value in us.items()},
        "ratios": {name: round(value, 1) for name, value in ratios.items()},
        "targets": {name: TARGETS[name] for name in ratios},
        "met": all(ratios[name] >= TARGETS[name] for name in ratios),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m didmpc.bench.messages", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with_pypi = PYPI_PYTHON.exists()
    result = measure(with_pypi=with_pypi)
    if options.json:
        print(json.dumps(result))
        return 0 if result["met"] else 1
    print(f"CPU of cryptography for one record of {RECORD} bytes, sender, mediator and recipient together:")
    described = {
        "session": "session: sealed and opened",
        "didcomm": "our DIDComm mode: authcrypt, forward, unwrap, unpack",
        "pypi": "PyPI didcomm: the same",
    }
    for name, value in result["us"].items():
        print(f"  {described[name]:<54}{value:>10,.2f} us{_ratio(result, name)}")
    if not with_pypi:
        print("  PyPI didcomm is not installed; `make bench` does that.")
    print("Every target is met." if result["met"] else "A target is missed.")
    return 0 if result["met"] else 1


def _ratio(result: dict[str, Any], name: str) -> str:
    if name not in result["ratios"]:
        return ""
    return f"{result['ratios'][name]:>8.0f} x   (at least {result['targets'][name]} x)"


if __name__ == "__main__":
    raise SystemExit(main())
