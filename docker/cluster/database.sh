#!/bin/sh
# One of the PostgreSQL servers of a cluster. SERVERS names all of them, NAME this one. With an empty PGDATA it
# becomes a standby of whichever is the primary; only FIRST, where no other one answers, makes a new database.
#
# A commit waits for the first standby that has it on disk. Who was promoted stays the primary: one that comes
# back after that must not go on as a second one, so it asks first.
set -eu
umask 077
: "${NAME:?}" "${SERVERS:?}" "${FIRST:?}" "${PGDATA:?}" "${PGPASSFILE:?}"
PORT=${PORT:-5432}
SOCKETS=${SOCKETS:-/var/run/postgresql}

say() {
    echo "$NAME: $*" >&2
}

# A secret may belong to root, and PostgreSQL takes no password file that others can read.
cp "$PGPASSFILE" "${TMPDIR:-/tmp}/pgpass"
chmod 600 "${TMPDIR:-/tmp}/pgpass"
export PGPASSFILE="${TMPDIR:-/tmp}/pgpass"

primary() {
    for each in $SERVERS; do
        if [ "$each" != "$NAME" ] && [ "$(psql --no-psqlrc -qAt \
            "host=$each port=$PORT dbname=postgres user=replicator connect_timeout=3" \
            -c 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; then
            echo "$each"
            return
        fi
    done
}

joined() {
    separator=$1 list=
    shift
    for each in "$@"; do
        list="$list${list:+$separator}$each"
    done
    echo "$list"
}

make() {
    say "making a new database"
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C --data-checksums > /dev/null
    cat > "$PGDATA.new/pg_hba.conf" <<'END'
local all all trust
host didmpc didmpc all scram-sha-256
host replication,postgres replicator all scram-sha-256
END
    # Statements of its own: nobody can connect yet, and no password is on a command line.
    {
        sed -n 's/^[^:]*:[^:]*:[^:]*:\([a-z]*\):\([0-9A-Za-z]*\)$/CREATE ROLE \1 LOGIN PASSWORD '"'\2'"';/p' "$PGPASSFILE"
        echo 'ALTER ROLE replicator REPLICATION;'
        echo 'CREATE DATABASE didmpc OWNER didmpc;'
        echo 'REVOKE CONNECT, TEMPORARY ON DATABASE didmpc FROM public;'
    } | postgres --single -D "$PGDATA.new" postgres > /dev/null
    mv "$PGDATA.new" "$PGDATA"
}

join() {
    say "copying $1"
    rm -rf "$PGDATA.new"
    pg_basebackup --pgdata="$PGDATA.new" --checkpoint=fast --wal-method=stream \
        --dbname="host=$1 port=$PORT user=replicator application_name=$NAME"
    touch "$PGDATA.new/standby.signal"
    mv "$PGDATA.new" "$PGDATA"
}

found=$(primary)
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    until [ -n "$found" ] || [ "$NAME" = "$FIRST" ]; do
        say "waiting for a primary"
        sleep 2
        found=$(primary)
    done
    if [ -n "$found" ]; then join "$found"; else make; fi
elif [ -n "$found" ] && [ ! -e "$PGDATA/standby.signal" ]; then
    say "$found is the primary now, and this one was it before: there must not be two."
    say "To make it a standby, empty its volume and start it again (docs/cluster.md)."
    sleep 30
    exit 1
fi

exec postgres -D "$PGDATA" \
    -c cluster_name="$NAME" \
    -c listen_addresses="${LISTEN:-*}" -c port="$PORT" -c unix_socket_directories="$SOCKETS" \
    -c max_connections="${CONNECTIONS:-200}" -c shared_buffers="${BUFFERS:-256MB}" \
    -c wal_level=replica -c max_wal_senders=10 -c wal_keep_size="${KEEP:-1GB}" \
    -c hot_standby=on -c hot_standby_feedback=on \
    -c synchronous_commit=on -c synchronous_standby_names="ANY 1 (\"$(joined '", "' $SERVERS)\")" \
    -c wal_receiver_timeout=10s -c wal_sender_timeout=10s -c wal_retrieve_retry_interval=1s \
    -c primary_conninfo="host=$(joined , $SERVERS) port=$PORT user=replicator application_name=$NAME passfile=$PGPASSFILE connect_timeout=3 target_session_attrs=read-write" \
    -c recovery_target_timeline=latest \
    -c log_min_messages=warning
