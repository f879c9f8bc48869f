"""The tables, and the steps that lead an older store to them.

The same tables and columns stand in PostgreSQL (store/postgres/schema.py): what changes here changes there.
"""

_FIRST = """
CREATE TABLE account(
    aid INTEGER PRIMARY KEY,
    did TEXT NOT NULL UNIQUE,
    long_did TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;
-- A key list entry is a mailbox; n and bytes are what its messages add up to.
CREATE TABLE box(
    mid INTEGER PRIMARY KEY,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    did TEXT NOT NULL UNIQUE,
    long_did TEXT NOT NULL,
    n INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX box_of_account ON box(aid);
-- AUTOINCREMENT: the id of an acknowledged message never comes back for another one.
CREATE TABLE msg(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    mid INTEGER NOT NULL REFERENCES box(mid) ON DELETE CASCADE,
    at REAL NOT NULL,
    exp REAL NOT NULL,
    size INTEGER NOT NULL,
    h BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX msg_of_box ON msg(mid, seq);
CREATE INDEX msg_by_expiry ON msg(exp);
CREATE UNIQUE INDEX msg_once ON msg(mid, h);
-- Envelopes that changed an account, so that nobody can have them act again.
CREATE TABLE seen(h BLOB PRIMARY KEY, exp REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_expiry ON seen(exp);
CREATE TABLE channel(
    cid INTEGER PRIMARY KEY AUTOINCREMENT,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    exp REAL NOT NULL
) STRICT;
CREATE INDEX channel_of_account ON channel(aid);
CREATE INDEX channel_by_expiry ON channel(exp);
-- Only hashes of capabilities; rebind is the public key of whoever bound it first.
CREATE TABLE capability(
    h BLOB PRIMARY KEY,
    cid INTEGER NOT NULL REFERENCES channel(cid) ON DELETE CASCADE,
    side INTEGER NOT NULL,
    rebind BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX capability_of_channel ON capability(cid);
-- Short links to invitations.
CREATE TABLE link(
    name TEXT PRIMARY KEY,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    oob TEXT NOT NULL,
    exp REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX link_of_account ON link(aid);
CREATE INDEX link_by_expiry ON link(exp);
"""

# What all mailboxes of an account hold, exact through whatever changes or deletes a mailbox.
_TOTALS = """
ALTER TABLE account ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET bytes = (SELECT coalesce(sum(box.bytes), 0) FROM box WHERE box.aid = account.aid);
CREATE TRIGGER box_changed AFTER UPDATE OF bytes ON box BEGIN
    UPDATE account SET bytes = bytes + new.bytes - old.bytes WHERE aid = new.aid;
END;
CREATE TRIGGER box_deleted AFTER DELETE ON box BEGIN
    UPDATE account SET bytes = bytes - old.bytes WHERE aid = old.aid;
END;
"""

_THIRD = """
ALTER TABLE box ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;  -- when its DID itself claimed it; 0: never
ALTER TABLE msg ADD COLUMN due REAL NOT NULL DEFAULT 0;  -- delivered not before
DROP INDEX msg_of_box;
DROP INDEX msg_by_expiry;
-- With what a listing asks for, so that it reads no bodies.
CREATE INDEX msg_of_box ON msg(mid, seq, due, exp, size);
CREATE INDEX msg_by_expiry ON msg(exp, mid, size);
CREATE INDEX msg_delayed ON msg(mid, due) WHERE due > 0;
-- Acknowledged not long ago: forwarded again it is not new.
CREATE TABLE acknowledged(
    mid INTEGER NOT NULL REFERENCES box(mid) ON DELETE CASCADE,
    h BLOB NOT NULL,
    exp REAL NOT NULL,
    PRIMARY KEY (mid, h)
) STRICT, WITHOUT ROWID;
CREATE INDEX acknowledged_by_expiry ON acknowledged(exp);
-- Who may have an account and who may not.
CREATE TABLE rule(did TEXT PRIMARY KEY, allowed INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- Invitations to open an account: how many more times, and until when.
CREATE TABLE ticket(id TEXT PRIMARY KEY, uses INTEGER NOT NULL, exp REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_by_expiry ON ticket(exp);
-- What accounts wrote to the operator; no account need be there any more.
CREATE TABLE operator_message(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    did TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
"""

_FOURTH = """
-- Of whom the envelope was. The account counts them, and those that stay as long as it does.
ALTER TABLE seen ADD COLUMN aid INTEGER REFERENCES account(aid) ON DELETE CASCADE;
CREATE INDEX seen_of_account ON seen(aid) WHERE aid IS NOT NULL;
ALTER TABLE account ADD COLUMN acts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN lasting INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER seen_forgotten AFTER DELETE ON seen WHEN old.aid IS NOT NULL BEGIN
    UPDATE account SET acts = acts - 1 WHERE aid = old.aid;
END;
"""

_FIFTH = """
-- On their way to other mediators and agents. AUTOINCREMENT: an id never comes back for another one.
CREATE TABLE outgoing(
    oid INTEGER PRIMARY KEY AUTOINCREMENT,
    uri TEXT NOT NULL,
    host TEXT NOT NULL,
    due REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    exp REAL NOT NULL,
    size INTEGER NOT NULL,
    h BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX outgoing_by_due ON outgoing(due, oid);
CREATE INDEX outgoing_by_expiry ON outgoing(exp);
CREATE INDEX outgoing_of_host ON outgoing(host, size);
"""

_SIXTH = """
-- Packets of sessions in the JSON form: how many of n and of bytes are theirs.
ALTER TABLE msg ADD COLUMN packet INTEGER NOT NULL DEFAULT 0;
ALTER TABLE box ADD COLUMN packets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE box ADD COLUMN packet_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN packet_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER box_packets_changed AFTER UPDATE OF packet_bytes ON box BEGIN
    UPDATE account SET packet_bytes = packet_bytes + new.packet_bytes - old.packet_bytes WHERE aid = new.aid;
END;
CREATE TRIGGER box_packets_deleted AFTER DELETE ON box WHEN old.packet_bytes > 0 BEGIN
    UPDATE account SET packet_bytes = packet_bytes - old.packet_bytes WHERE aid = old.aid;
END;
-- Bytes per second and direction; 0: no limit of its own.
ALTER TABLE channel ADD COLUMN rate INTEGER NOT NULL DEFAULT 0;
"""

STEPS = (_FIRST, _TOTALS, _THIRD, _FOURTH, _FIFTH, _SIXTH)
"""Step n leads from version n - 1 to version n. A step that was released is never changed."""
