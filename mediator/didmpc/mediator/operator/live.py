"""What the operator sees of a mediator while it runs, and does to it."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from didmpc.mediator.health import Health
from didmpc.mediator.host.configuration import Configuration
from didmpc.mediator.host.home import Settings
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.mail.outgoing import Outgoing
from didmpc.mediator.metrics import Metrics
from didmpc.mediator.neighbours import Alone, Neighbours
from didmpc.mediator.operator.control import Json
from didmpc.mediator.operator.history import memory_bytes
from didmpc.mediator.operator.token import Token
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.sockets.websocket import WebSockets
from didmpc.mediator.store import Store
from didmpc.protocols.errors import LocalMisuse


@dataclass(frozen=True, slots=True)
class PageAt:
    """Where the operator's page is, and what opens it."""

    url: str
    token: Token


class LiveMediator:
    def __init__(
        self,
        settings: Settings,
        configuration: Configuration | None,
        health: Health,
        deliveries: Deliveries,
        relay: Relay,
        websockets: WebSockets,
        metrics: Metrics,
        page: PageAt | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._neighbours = neighbours or Alone()
        self._page = page
        self._port = settings.port
        self._configuration = configuration
        self._health = health
        self._deliveries = deliveries
        self._relay = relay
        self._websockets = websockets
        self._metrics = metrics
        self._since = time.time()

    async def status(self) -> Json:
        metrics, relay = self._metrics, self._relay
        return {
            "pid": os.getpid(),
            "since": self._since,
            "obstacles": await self.obstacles(),
            "sockets": self._websockets.count,
            "live": self._deliveries.live_count,
            "messages_in": int(metrics.total("messages_in")),
            "messages_out": int(metrics.total("messages_out")),
            "refusals": metrics.by_label("refusals"),
            "limits_hit": metrics.by_label("limits_hit"),
            "relay": {
                "connections": relay.leg_count,
                "channels": relay.channel_count,
                "bytes": relay.traffic.bytes,
                "packets": relay.traffic.packets,
            },
            "settings": self._settings(),
        }

    async def obstacles(self) -> list[str]:
        return list(await self._health.obstacles())

    async def figures(self, store: Store) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """What has been counted since the start, and what is so now; nobody is named."""
        metrics, relay = self._metrics, self._relay
        totals = await store.totals()
        counted = {
            "messages_in": metrics.total("messages_in"),
            "messages_out": metrics.total("messages_out"),
            "refusals": metrics.total("refusals"),
            "limits_hit": metrics.total("limits_hit"),
            "relay_packets": relay.traffic.packets,
            "relay_bytes": relay.traffic.bytes,
            "processor": time.process_time(),
        }
        current = {
            "sockets": self._websockets.count,
            "live": self._deliveries.live_count,
            "relay_connections": relay.leg_count,
            "relay_channels": relay.channel_count,
            "accounts": totals.accounts,
            "mailboxes": totals.keys,
            "queued": totals.messages,
            "queued_bytes": totals.bytes,
            "memory_bytes": memory_bytes(),
            "disk_free_bytes": store.free_bytes,
        }
        return counted, current

    def page(self, *, renew: bool) -> Json:
        """Where the operator's page is, with its token. Raises `LocalMisuse` where it is not served."""
        if self._page is None:
            raise LocalMisuse(
                "This mediator serves no page for its operator.",
                why="It was started without operator-listen.",
                fix='Put  operator-listen = "127.0.0.1:8766"  into mediator.toml in its home,'
                " and start it again.",
            )
        if renew:
            self._page.token.renew()
        return {"url": self._page.url, "token": self._page.token.reveal()}

    async def nodes(self) -> list[Json]:
        """All nodes of this mediator. Raises `LocalMisuse` where it is the only one there can be."""
        nodes = await self._neighbours.nodes()
        if nodes is None:
            raise LocalMisuse(
                "This mediator is one node: its store is a file of its own.",
                fix="Several nodes share a PostgreSQL database: see docs/cluster.md.",
            )
        return nodes

    async def shut_out(self, did: str, channels: tuple[int, ...]) -> int:
        self._neighbours.shut_out(did, channels)
        return await self.shut_out_here(did, channels)

    async def shut_out_here(self, did: str, channels: tuple[int, ...]) -> int:
        """The same on this node alone."""
        sockets = self._deliveries.sockets_of(did)
        self._deliveries.drop(did)
        self._relay.revoke(channels)
        return await self._websockets.end(sockets, "The operator has closed your account.")

    async def part(self) -> None:
        """Send live sockets to other nodes."""
        await self._websockets.move(self._deliveries.live_sockets)

    def load(self) -> dict[str, int]:
        """How much is here, for other nodes to show."""
        return {
            "sockets": self._websockets.count,
            "live": self._deliveries.live_count,
            "legs": self._relay.leg_count,
            "channels": self._relay.channel_count,
        }

    def configuration(self) -> Json:
        if self._configuration is None:
            raise LocalMisuse("This mediator was started without settings.")
        shown = self._configuration.to_json()
        shown["settings"]["port"]["value"] = self._port  # where any free one was asked for
        return shown

    def _settings(self) -> Json:
        if self._configuration is None:
            return {}
        return {key: self._configuration[key] for key in ("registration", "limits")}


def add_gauges(
    metrics: Metrics,
    deliveries: Deliveries,
    relay: Relay,
    websockets: WebSockets,
    outgoing: Outgoing,
    neighbours: Neighbours,
) -> None:
    """The figures that are asked for when somebody reads."""
    metrics.gauge("nodes", "Nodes of this mediator that are there.", lambda: neighbours.nodes_there)
    metrics.gauge("websockets", "WebSockets that are open.", lambda: websockets.count)
    metrics.gauge("live_subscriptions", "Sockets in live mode.", lambda: deliveries.live_count)
    metrics.gauge("relay_connections", "Legs of the relay.", lambda: relay.leg_count)
    metrics.gauge("relay_channels", "Relay channels of which an end is bound.", lambda: relay.channel_count)
    metrics.running_total("relay_bytes", "Bytes relayed.", lambda: relay.traffic.bytes)
    metrics.running_total("relay_packets", "Packets relayed.", lambda: relay.traffic.packets)
    traffic = outgoing.traffic
    metrics.running_total("outgoing_sent", "Messages that another server took.", lambda: traffic.sent)
    metrics.running_total("outgoing_refused", "Messages that none takes.", lambda: traffic.refused)
    metrics.running_total("outgoing_retried", "Attempts that are made again.", lambda: traffic.retried)
