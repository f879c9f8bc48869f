"""Secret Santa: each learns one other person's name and wish, and nobody knows who gives to whom.

Each party gives one line: name and wish, as in `Alice: a book about bees`. A secret random permutation
without fixed points is drawn; each party receives the line of the person it gives to, and of no one else.
"""

from mpyc.runtime import mpc
from private_input import ask

LONGEST = 80  # bytes of UTF-8


def wish(text: str) -> bytes:
    line = text.encode()
    if len(line) > LONGEST:
        raise ValueError(f"That is {len(line)} bytes; at most {LONGEST} fit.")
    name, colon, thing = text.partition(":")
    if not (colon and name.strip() and thing.strip()):
        raise ValueError("Write a name, a colon and a wish, such as  Alice: a book about bees")
    return line.ljust(LONGEST, b"\0")


async def main() -> None:
    parties = len(mpc.parties)
    if parties < 3:
        raise SystemExit("With two people there is no secret: invite at least two others.")
    mine = ask("Your name and wish (Alice: a book about bees):", wish)

    # A prime field that holds a byte and a party's number; small elements make small messages.
    field = mpc.SecFld(min_order=max(256, parties) + 1)
    await mpc.start()
    lines = mpc.input([field(byte) for byte in mine])
    gives_to = permutation_without_fixed_points(field, parties)
    assigned = mpc.matrix_prod(await gives_to, lines)
    received = [await mpc.output(assigned[pid], receivers=pid) for pid in range(parties)]
    await mpc.shutdown()

    text = bytes(int(byte) for byte in received[mpc.pid]).rstrip(b"\0")
    print(f"You give to {text.decode(errors='replace')}")


async def permutation_without_fixed_points(field, n):
    """A secret permutation matrix with zeros on its diagonal, uniform among all such."""
    while True:
        rows = [[field(int(i == j)) for j in range(n)] for i in range(n)]
        for i in range(n - 1):  # row i changes places with a random one of the rows from i on
            choice = mpc.random.random_unit_vector(field, n - i)
            chosen = mpc.matrix_prod([choice], rows[i:])[0]
            change = mpc.vector_sub(rows[i], chosen)
            moved = mpc.matrix_prod([[c] for c in choice], [change])
            rows[i:] = [mpc.vector_add(row, delta) for row, delta in zip(rows[i:], moved, strict=True)]
            rows[i] = chosen
        # Only "some party drew itself" is opened, and then the whole permutation is thrown away.
        if await mpc.output(mpc.prod([1 - rows[i][i] for i in range(n)])):
            return rows


if __name__ == "__main__":
    mpc.run(main())
