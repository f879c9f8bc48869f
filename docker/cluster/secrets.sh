#!/bin/sh
# Make the passwords of the databases, once; what is there stays. As root: each file is for one user of the
# containers alone.
set -eu
umask 077
cd "$(dirname "$0")"
NODES=${NODES:-10001} DATABASES=${DATABASES:-999}
mkdir -p secrets
chmod 711 secrets

password() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

if [ ! -e secrets/databases.pgpass ]; then
    didmpc=$(password)
    printf '*:*:*:didmpc:%s\n' "$didmpc" > secrets/nodes.pgpass
    printf '*:*:*:didmpc:%s\n*:*:*:replicator:%s\n' "$didmpc" "$(password)" > secrets/databases.pgpass.new
    chown "$NODES:$NODES" secrets/nodes.pgpass
    chown "$DATABASES:$DATABASES" secrets/databases.pgpass.new
    mv secrets/databases.pgpass.new secrets/databases.pgpass
fi
# The keys of a mediator that is moved here, if you have put them there.
if [ -e secrets/mediator.json ]; then
    chown "$NODES:$NODES" secrets/mediator.json
    chmod 600 secrets/mediator.json
fi
echo "Passwords are in $(pwd)/secrets."
