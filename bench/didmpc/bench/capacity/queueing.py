"""Waiting in closed form. Times in seconds, rates per second; `inf` where work comes faster than it is done.

M/M/k: Erlang's C. M/G/1: Pollaczek and Khinchine. M/G/k: Allen and Cunneen's approximation, which is both of
these where they apply.
"""

import math


def erlang_c(servers: int, offered: float) -> float:
    """The probability that who comes must wait: `offered` is the work that comes, in servers."""
    if offered >= servers:
        return 1.0
    if offered <= 0:
        return 0.0
    blocked = 1.0  # Erlang's B, server by server
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    busy = offered / servers
    return blocked / (1 - busy + busy * blocked)


def mean_wait(rate: float, service: float, servers: int = 1, variation: float = 1.0) -> float:
    """The mean time in the queue; `variation` is the squared coefficient of variation of the service.

    1: exponential; 0: always the same.
    """
    offered = rate * service
    if offered >= servers:
        return math.inf
    return erlang_c(servers, offered) * service / (servers - offered) * (1 + variation) / 2


def mean_time(rate: float, service: float, servers: int = 1, variation: float = 1.0) -> float:
    """The mean time until done."""
    return mean_wait(rate, service, servers, variation) + service
