"""What cannot start on its PostgreSQL says what happened, why, and what to do, never the password."""

import asyncio
import datetime
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from postgres import Database, Server

from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.store.opening import open_store
from didmpc.mediator.store.postgres import connection, description
from didmpc.protocols.errors import LocalMisuse

PATIENCE = 60.0


async def refused(url: str, folder: Path) -> LocalMisuse:
    with pytest.raises(LocalMisuse) as error:
        await open_store(Home(folder), Limits(), url)
    assert error.value.why and error.value.fix
    return error.value


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Whoever opens the store waits."""
    other = await asyncpg.connect(database.dsn)
    await other.execute("SELECT pg_advisory_lock(hashtext('didmpc.schema'))")
    try:
        yield other
    finally:
        await other.close()


async def test_one_who_may_make_no_tables_is_told_who_must_own_the_database(
    database: Database, tmp_path: Path
) -> None:
    error = await refused(database.server.dsn("postgres"), tmp_path)
    assert error.what.endswith("cannot be made or brought up to date.")
    assert error.fix == "The user must own the database:  ALTER DATABASE postgres OWNER TO didmpc;"
    assert database.server.password not in str(error)


async def test_one_who_may_not_connect_is_told_what_to_grant(
    database: Database, postgres_server: Server, tmp_path: Path
) -> None:
    await postgres_server.admin(
        f"ALTER DATABASE {database.name} OWNER TO postgres",
        f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC",
    )
    error = await refused(database.dsn, tmp_path)
    assert error.fix == f"GRANT CONNECT ON DATABASE {database.name} TO didmpc;"


@pytest.mark.parametrize(
    "mode, line, fix",
    [
        (0o644, "*:*:*:*:{}", "was not used, as others can read it:  chmod 600"),
        (0o600, "*:*:elsewhere:*:{}", "has no line for it, or a wrong one"),
        (None, "", "no such file or directory"),
    ],
    ids=["readable", "of another", "missing"],
)
@pytest.mark.filterwarnings("ignore:password file")
async def test_what_is_wrong_with_the_file_of_passwords_is_said(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int | None,
    line: str,
    fix: str,
) -> None:
    passwords = tmp_path / "pgpass"
    if mode is not None:
        passwords.write_text(line.format(database.server.password))
        passwords.chmod(mode)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    error = await refused(database.url, tmp_path)
    assert error.what == f"PostgreSQL does not let the mediator in: {database.url}."
    assert str(passwords) in error.fix
    assert fix in error.fix


async def test_a_server_whose_certificate_is_not_trusted_is_not_used(tmp_path: Path) -> None:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = tmp_path / "db.crt", tmp_path / "db.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pkcs8 = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *pkcs8))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key_file)

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # asks for TLS
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://didmpc:secret@127.0.0.1:{port}/didmpc?sslmode=verify-full&sslrootcert="
        error = await refused(url + ssl.get_default_verify_paths().openssl_cafile, tmp_path)
        assert "certificate is not trusted" in error.why and "sslrootcert=FILE" in error.fix
        error = await refused(f"{url}{tmp_path / 'nothing'}", tmp_path)
        assert error.fix == "Correct the names of files in --store."
        assert "secret" not in str(error)


async def test_an_old_server_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "OLDEST", 99)
    error = await refused(database.dsn, tmp_path)
    assert error.why == "A mediator needs PostgreSQL 99 or later."


async def test_a_database_that_confirms_nothing_is_not_waited_for_for_ever(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    async with held_up(database):
        error = await refused(database.dsn, tmp_path)
    assert "does not confirm what is written" in error.what
    assert "synchronous_standby_names" in error.fix


async def test_ctrl_c_ends_a_start_that_waits_for_the_database(database: Database, tmp_path: Path) -> None:
    async with held_up(database) as other:
        mediator = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "didmpc.mediator.cli", "start", "--home", str(tmp_path), "--port", "0"),
            *("--store", database.url),
            env={**os.environ, **database.environment},
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.05)
            mediator.send_signal(signal.SIGINT)
            _, said = await mediator.communicate()
    assert (mediator.returncode, said.decode()) == (130, "Stopped.\n")
