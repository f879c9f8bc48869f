"""The figures as a table, each beside what it is measured against."""

from typing import Any

Result = dict[str, Any]

FORWARDS_PER_SECOND = 2000.0
LIVE_P99_MS = 25.0
IDLE_SOCKETS, IDLE_MIB = 5000, 150.0
STATUS_P99_MS = 5.0


def aims(result: Result) -> list[Result]:
    """What is aimed at on two cores, and whether it is met; only of what was measured."""
    found = []
    if "forwards" in result:
        for transport in ("http", "ws"):
            rate = result["forwards"][transport]["per_second"]
            what = f"forwards over {transport}, per second"
            found.append(_aim(what, "at least", FORWARDS_PER_SECOND, rate, rate >= FORWARDS_PER_SECOND))
    if "live" in result:
        p99 = result["live"]["p99_ms"]
        found.append(_aim("live delivery p99, ms", "below", LIVE_P99_MS, p99, p99 < LIVE_P99_MS))
    if "idle" in result:
        mib = result["idle"]["each_kib"] * IDLE_SOCKETS / 1024
        found.append(_aim(f"{IDLE_SOCKETS:,} idle sockets, MiB", "below", IDLE_MIB, mib, mib < IDLE_MIB))
    if "status" in result:
        p99 = result["status"]["p99_ms"]
        found.append(_aim("status p99, ms", "below", STATUS_P99_MS, p99, p99 < STATUS_P99_MS))
    return found


def lines(result: Result) -> list[str]:
    """For people."""
    machine = result["machine"]
    out = [
        f"didmpc {machine['didmpc']}, {machine['cores']} cores ({machine['processor']}), {machine['system']}",
        f"Python {machine['python']}, {machine['event_loop']}, SQLite {machine['sqlite']},"
        f" aiohttp {machine['aiohttp']}, cryptography {machine['cryptography']}; {machine['filesystem']};"
        f" load {machine['load_before']} before",
    ]
    if machine["filesystem"] == "tmpfs":
        out.append("The folder is in memory: commits cost nothing here. Name one on a disk with --directory.")
    ceilings = result.get("ceilings", {})
    if ceilings:
        size = f"{ceilings['forward_bytes']:,} B"
        out += [
            "",
            "Ceilings, each alone on this machine                 per second",
            _row(f"  raw TCP relay, {size} there and back", ceilings["relay_per_second"])
            + f"   alone p50 {ceilings['relay_p50_ms']:.2f} ms, p99 {ceilings['relay_p99_ms']:.2f} ms",
            _row("  commits of the store, one envelope each", ceilings["commits_per_second"]),
            _row(f"  opening forwards of {size}, one core", ceilings["unpack_per_second"]),
        ]
    if "forwards" in result:
        out += [
            "",
            "Forwards, durable            per second  of opening   CPU us: mediator   load   p50 ms   p99 ms",
        ]
        for name, transport in (("HTTP", "http"), ("WebSocket", "ws")):
            each = result["forwards"][transport]
            share = each["per_second"] / ceilings["unpack_per_second"]
            times = f"{each['p50_ms']:>9.1f}{each['p99_ms']:>9.1f}" if "p50_ms" in each else ""
            out.append(
                f"  over {name:<22}{each['per_second']:>10,.0f}{share:>12.0%}"
                f"{each['mediator_cpu_us']:>19,.0f}{each['load_cpu_us']:>7,.0f}{times}"
            )
    if "live" in result:
        each = result["live"]
        out += [
            "",
            f"Forward to live delivery at {each['rate']:,.0f}/s: p50 {each['p50_ms']:.1f} ms,"
            f" p99 {each['p99_ms']:.1f} ms, longest {each['max_ms']:.1f} ms;"
            f" {each['mediator_cpu_us']:,.0f} us of the mediator's CPU per message",
        ]
    if "pickup" in result:
        each = result["pickup"]
        out += [
            "",
            f"Pickup: {each['per_second']:,.0f} messages/s fetched and acknowledged"
            f" ({each['requests_per_second']:,.0f} requests/s);"
            f" {each['mediator_cpu_us']:,.0f} us of the mediator's CPU per message",
        ]
    if "idle" in result:
        each = result["idle"]
        out += [
            "",
            f"Idle WebSockets: {each['sockets']:,} take {each['all_mib']:.0f} MiB,"
            f" {each['each_kib']:.1f} KiB each, {each['per_gib']:,.0f} per GiB;"
            f" the mediator itself {each['before_mib']:.0f} MiB."
            f" A plain TCP connection takes {each['plain_tcp_kib']:.1f} KiB.",
        ]
    if "status" in result:
        each = result["status"]
        out += [
            "",
            f"Status with {each['messages']:,} messages in {each['mailboxes']:,} mailboxes:"
            f" p50 {each['p50_ms']:.2f} ms, p99 {each['p99_ms']:.2f} ms"
            f" (the store alone: {each['store_p50_ms']:.2f} and {each['store_p99_ms']:.2f} ms;"
            f" put in at {each['filled_per_second']:,.0f}/s)",
        ]
    if result["aims"]:
        out += ["", "Aims on two cores"]
        out += [
            f"  {'met   ' if aim['met'] else 'missed'} {aim['what']:<34}{aim['value']:>10,.1f}"
            f"   ({aim['bound']} {aim['aim']:,.0f})"
            for aim in result["aims"]
        ]
    return out


def _aim(what: str, bound: str, aim: float, value: float, met: bool) -> Result:
    return {"what": what, "bound": bound, "aim": aim, "value": value, "met": met}


def _row(what: str, value: float) -> str:
    return f"{what:<50}{value:>13,.0f}"
