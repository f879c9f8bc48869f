"""An SSH server of the test's own on loopback: it runs what it is told as the user of the test."""

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path

import asyncssh


class OneKey(asyncssh.SSHServer):
    """Lets in one key, whoever brings it."""

    def __init__(self, key):
        self._key = key

    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return key == self._key.convert_to_public()


async def _run(process):
    """With pipes, as sshd does it."""
    child = await asyncio.create_subprocess_shell(
        process.command,
        *(asyncio.subprocess.PIPE,) * 2,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await process.redirect(child.stdin, child.stdout, child.stderr)
    process.exit(await child.wait())


@contextmanager
def ssh_server(folder: Path):
    """Its port; `folder` gets `id` (the key that is let in) and `known_hosts`."""
    host_key, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(folder / "id")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start():
        return await asyncssh.create_server(
            lambda: OneKey(key),
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            process_factory=_run,
            encoding=None,
        )

    async def stop(server):
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    port = server.get_port()
    public = host_key.export_public_key().decode()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
