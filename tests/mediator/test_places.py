"""So many messages at once, and a place that is lent out while its holder waits for others."""

import asyncio

from didmpc.mediator.service.places import Places


async def test_a_place_is_lent_out_while_its_holder_waits_elsewhere() -> None:
    places, server, inside = Places(1), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with places.taken(), places.left():
            inside.set()
            await server.wait()

    waiting = asyncio.create_task(slow())
    await inside.wait()
    async with asyncio.timeout(60), places.taken():
        server.set()
        await asyncio.sleep(0)
        assert not waiting.done()  # it needs its place again first
    async with asyncio.timeout(60):
        await waiting


async def test_whoever_is_cancelled_while_it_waits_takes_no_place_along_and_makes_none() -> None:
    places, never, inside = Places(1), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with places.taken(), places.left():
            inside.set()
            await never.wait()

    for _ in range(3):
        inside.clear()
        waiting = asyncio.create_task(slow())
        await inside.wait()
        async with places.taken():
            waiting.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    entered: list[int] = []

    async def enter(number: int) -> None:
        async with places.taken():
            entered.append(number)
            await never.wait()

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert entered == [0]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_has_no_place_gives_none_up() -> None:
    places = Places(1)
    async with places.left():
        pass
    async with places.taken():
        late = asyncio.create_task(places.taken().__aenter__())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
