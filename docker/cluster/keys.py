"""Give the homes of all nodes the same keys: those that are given, else those of one of them, or new ones.

As root, for a fresh volume belongs to root; each home then belongs to the user of the nodes, OWNER.
"""

import os
import sys
from pathlib import Path

from didmpc.local.private_files import write_private
from didmpc.mediator.host.home import KEYS_FILE, LOG_KEY_FILE, Home, Settings

PORT = 8765


def main(given: Path, public_url: str, homes: list[Home], owner: int | None = None) -> None:
    """Homes with other keys than these are an error: they are of another mediator."""
    found = [settings for settings in (Home(given).load(), *(home.load() for home in homes)) if settings]
    settings = found[0] if found else Settings.new()
    if any(other.keys != settings.keys for other in found):
        sys.exit(f"The homes {', '.join(str(home.root) for home in homes)} have keys of different mediators.")
    log_keys = [path.read_bytes() for home in homes if (path := home.root / LOG_KEY_FILE).exists()]
    for home in homes:
        home.prepare()
        if owner is not None:
            os.chown(home.root, owner, owner)  # and so does what is made in it
        home.save(settings.listening("0.0.0.0", PORT, public_url))  # noqa: S104  (inside of a container)
        if log_keys and not (home.root / LOG_KEY_FILE).exists():
            write_private(home.root / LOG_KEY_FILE, log_keys[0])
        log_keys = log_keys or [home.log_key()]
    print(f"{KEYS_FILE} is the same in {len(homes)} homes.")


if __name__ == "__main__":
    given = Path(os.environ.get("GIVEN", "/run/given"))
    homes = [Home(Path(name)) for name in sys.argv[1:]]
    main(given, os.environ["PUBLIC_URL"], homes, int(os.environ["OWNER"]))
