"""A chat between two contacts.

    python examples/chat.py NAME      at both, each with the name of the other; Ctrl-D ends it

Whoever comes first waits. Where both come at once, their sessions cross and become one.
"""

import argparse
import asyncio
import sys

from didmpc.agent.api import Agent, DidmpcError, Listener, Session, SessionRefused

PROTOCOL = "https://w3id.org/didmpc/examples/chat/1.0"
LONGEST_LINE = 4096


async def meet(agent: Agent, listener: Listener, name: str) -> Session:
    """Open the session, or wait until the other one does."""
    try:
        return await agent.open(name, protocol=PROTOCOL)
    except SessionRefused:
        print(f"waiting for {name}", flush=True)
    async for session in listener:
        if session.contact == name:
            return session
        await session.abort("This chat is with somebody else.")
    raise AssertionError("a listener ends by an error only")


async def listen(session: Session) -> None:
    """Show what the other one says, until it has said all."""
    async for message in session:
        text = "".join(c for c in message.decode(errors="replace") if c.isprintable())
        print(f"{session.contact}: {text[:LONGEST_LINE]}", flush=True)
    print(f"{session.contact} has left", flush=True)


async def talk(session: Session) -> None:
    """Say what is typed, until there is no more."""
    reader = asyncio.StreamReader(limit=2**20)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        await session.send(line.rstrip(b"\n"))


def arguments() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("name", help="a contact of your agent")
    parser.add_argument("--home", help="home of the agent, where it is not the usual one")
    return parser.parse_args()


async def main(given: argparse.Namespace) -> None:
    async with (
        Agent.connect(given.home) as agent,
        agent.sessions(PROTOCOL) as listener,
        await meet(agent, listener, given.name) as session,
    ):
        print(f"{session.contact} is here", flush=True)
        both = asyncio.create_task(listen(session)), asyncio.create_task(talk(session))
        done, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        for task in done:
            task.result()


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except DidmpcError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
