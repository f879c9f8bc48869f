"""Test hosts: network namespaces joined by a bridge, which is the Internet.

    party -- wan ---------------------------.
    party -- lan -- gateway (NAT) -- wan ---- bridge ---- wan -- vps
                                            '------------ wan -- vps1

The bridge stands in the namespace of the process that calls, which `isolate` has made for it. Addresses are
those that RFC 2544 sets aside for benchmarks. Each `wan` link is a veth pair, with netem at both ends where
the kernel has it; else, where there is a distance to add, a pair of TAP devices with the delay box between.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from didmpc.bench.cluster import Running
from didmpc.bench.compare.hosts import (
    PYTHON,
    Host,
    HostError,
    NearHost,
    Network,
    environment,
    stop_all,
    wait_until,
)
from didmpc.bench.compare.profiles import PROFILES, Profile

BRIDGE = "internet"
_LAN = PROFILES["lan"]


class Site(StrEnum):
    """How a party is connected to the Internet."""

    OPEN = "open"
    """A public address; everything comes in."""
    PORT_RESTRICTED = "port-restricted"
    """A NAT that keeps one port for each of ours; only those we have written to come in, from that port."""
    SYMMETRIC = "symmetric"
    """A NAT that takes another port for each peer."""
    ONLY_443 = "only-443"
    """A port restricted NAT that lets out connections to TCP port 443 and nothing else."""


def has_netem() -> bool:
    """Whether the kernel can delay packets itself."""
    made = _attempt("ip", "link", "add", "netemtry", "type", "dummy")
    if made:
        made = _attempt("tc", "qdisc", "add", "dev", "netemtry", "root", "netem", "delay", "1ms")
        _attempt("ip", "link", "delete", "netemtry")
    return made


@contextlib.contextmanager
def lab(
    folder: Path,
    parties: int = 3,
    *,
    profile: Profile = _LAN,
    sites: Sequence[Site] = (Site.OPEN,),
    servers: int = 2,
    exact: bool = False,
    netem: bool | None = None,
) -> Iterator["Lab"]:
    """Make the hosts; all is gone afterwards.

    `sites` is repeated for further parties. With `exact` packets have the sizes that they have on a cable,
    for counting; without, the kernel may pass many of them as one. `netem`: None = where the kernel has it.
    """
    made = Lab(folder, profile, exact=exact, netem=has_netem() if netem is None else netem)
    try:
        made.build(parties, sites, servers)
        yield made
    finally:
        made.take_down()


class Lab:
    """Use `lab`."""

    def __init__(self, folder: Path, profile: Profile, *, exact: bool, netem: bool) -> None:
        self.folder = folder
        self.profile = profile
        self.exact = exact
        self.netem = netem and not profile.is_plain
        self.box = not netem and not profile.is_plain
        self.delayed_by = "the kernel (tc netem)" if self.netem else ""
        if self.box:
            self.delayed_by = "a delay box in user space, as this kernel has no netem"
        self.delay_box: Running | None = None
        self._namespaces: list[str] = []
        self._ports: dict[str, str] = {}
        self._links: list[tuple[str, str]] = []

    # --- building

    def build(self, parties: int, sites: Sequence[Site], servers: int) -> None:
        _ip("link", "set", "lo", "up")
        _ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        _ip("link", "set", BRIDGE, "up")
        plan: list[tuple[str, str, Site]] = []
        for number in range(servers):
            plan.append((f"vps{number or ''}", f"198.18.0.{number + 1}", Site.OPEN))
        for number in range(parties):
            plan.append((f"party{number}", f"198.18.0.{number + 101}", sites[number % len(sites)]))
        for name, _, site in plan:
            self._namespace(name)
            outer = name
            if site is not Site.OPEN:
                outer = f"gateway-{name}"
                self._namespace(outer)
                self._behind_nat(name, outer, site)
            self._links.append((outer, f"to-{name}"))
            self._ports[name] = f"to-{name}"
        self._make_links()
        for (outer, port), (_, address, _) in zip(self._links, plan, strict=True):
            _ip("link", "set", port, "master", BRIDGE, "up")
            _ip("-n", outer, "address", "add", f"{address}/24", "dev", "wan")
            _ip("-n", outer, "link", "set", "wan", "up")
            if self.exact:
                _ip("-n", outer, "link", "set", "wan", "gso_max_segs", "1")
        hosts: list[Host] = [
            NearHost(
                name,
                address,
                self.folder / name,
                prefix=("ip", "netns", "exec", name),
                netns=_file(name),
            )
            for name, address, _ in plan
        ]
        self.network = Network(self.profile.name, hosts[servers:], hosts[:servers], separate=True)

    def _namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _behind_nat(self, name: str, gateway: str, site: Site) -> None:
        number = len(self._namespaces)
        _ip("-n", name, "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", gateway)
        for end, last in ((gateway, 1), (name, 2)):
            _ip("-n", end, "address", "add", f"192.168.{number}.{last}/24", "dev", "lan")
            _ip("-n", end, "link", "set", "lan", "up")
        if self.exact:
            _ip("-n", name, "link", "set", "lan", "gso_max_segs", "1")
        _ip("-n", name, "route", "add", "default", "via", f"192.168.{number}.1")
        _command("ip", "netns", "exec", gateway, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        _command("ip", "netns", "exec", gateway, "nft", "-f", "-", text=nat_rules(site))

    def _make_links(self) -> None:
        if self.box:
            self._start_box()
            return
        for outer, port in self._links:
            _ip("link", "add", port, "type", "veth", "peer", "name", "wan", "netns", outer)
            if self.netem:
                _command("tc", *self._netem(port))
                _command("tc", "-n", outer, *self._netem("wan"))

    def _netem(self, device: str) -> list[str]:
        profile = self.profile
        milliseconds = f"{1000 * profile.link_delay:g}ms"
        # netem's jitter goes both ways, ours only makes later.
        late = [f"{500 * profile.jitter:g}ms"] if profile.jitter else []
        loss = ["loss", f"{100 * profile.loss:g}%"] if profile.loss else []
        rate = ["rate", f"{profile.rate:.0f}bit"] if profile.rate else []
        return ["qdisc", "add", "dev", device, "root", "netem", "delay", milliseconds, *late, *loss, *rate]

    def _start_box(self) -> None:
        profile = self.profile
        links = [
            {
                "near": [str(_file(outer)), "wan"],
                "far": [None, port],
                "delay": profile.link_delay,
                "jitter": profile.jitter,
                "loss": profile.loss,
                "rate": profile.rate,
            }
            for outer, port in self._links
        ]
        host = NearHost("delay-box", "", self.folder / "delay-box")
        (host.folder / "links").write_text(json.dumps({"links": links}) + "\n")
        # A shell, so that its stdin is a file: the box takes its orders there, and no pipe stays open.
        self.delay_box = box = host.start("sh", "-c", f"exec {PYTHON} -m didmpc.bench.compare.delay < links")

        def is_ready() -> bool:
            if box.poll() is not None:
                raise HostError("The delay box ended.", why=box.stderr[-1500:])
            return "ready" in box.stdout

        wait_until(is_ready, "The start of the delay box")

    # --- while it runs

    def port_of(self, host: Host) -> str:
        """The device of the bridge that leads to a host."""
        return self._ports[host.name]

    def cut(self, host: Host) -> None:
        """Let nothing through between a host and all others, silently."""
        _command("bridge", "link", "set", "dev", self.port_of(host), "state", "disabled")

    def mend(self, host: Host) -> None:
        """Take a cut back."""
        _command("bridge", "link", "set", "dev", self.port_of(host), "state", "forwarding")

    # --- taking down

    def take_down(self) -> None:
        with contextlib.suppress(AttributeError):  # it broke before there were any
            self.network.stop()
        if self.delay_box is not None:
            stop_all([self.delay_box])
        for name in reversed(self._namespaces):
            _attempt("ip", "netns", "delete", name)
        _attempt("ip", "link", "delete", BRIDGE)
        for _, port in self._links:
            _attempt("ip", "link", "delete", port)


def nat_rules(site: Site) -> str:
    """Rules of nftables for a gateway with the devices `lan` and `wan`.

    What nobody inside has asked for is dropped on the way through and at the gateway itself: else an early
    packet from outside would take the port that the answer to it needs.
    """
    allowed = "tcp dport 443 accept" if site is Site.ONLY_443 else "accept"
    ports = " fully-random" if site is Site.SYMMETRIC else ""
    return f"""
table ip nat {{
  chain out {{
    type nat hook postrouting priority srcnat
    oifname "wan" masquerade{ports}
  }}
}}
table inet firewall {{
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" oifname "wan" {allowed}
  }}
  chain here {{
    type filter hook input priority filter; policy drop;
    iifname != "wan" accept
    ct state established,related accept
  }}
}}
"""


def _file(name: str) -> Path:
    return Path("/run/netns") / name


def _ip(*arguments: str) -> None:
    _command("ip", *arguments)


def _command(*arguments: str, text: str = "") -> None:
    try:
        done = subprocess.run(
            arguments, input=text, capture_output=True, text=True, timeout=20, check=False, env=environment()
        )
    except FileNotFoundError:
        package = {"nft": "nftables"}.get(arguments[0], "iproute2")
        raise HostError(
            f"There is no {arguments[0]} on this machine.",
            why="The test hosts are made with it.",
            fix=f"On Debian and Ubuntu: apt install {package}",
        ) from None
    if done.returncode != 0:
        raise HostError(f"{' '.join(arguments)} failed.", why=done.stderr.strip())


def _attempt(*arguments: str) -> bool:
    try:
        _command(*arguments)
    except HostError:
        return False
    return True
