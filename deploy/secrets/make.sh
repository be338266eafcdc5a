#!/bin/sh
# Makes the secrets that compose.yaml and kubernetes/ name, each in a file of its own that only you can read; files that exist are left alone.
#
#     sh deploy/secrets/make.sh [FOLDER]
#     for each in service console guard redis; do
#         kubectl -n paretune create secret generic "paretune-$each" --from-env-file="deploy/secrets/$each.env"; done
set -eu
umask 077
cd "${1:-$(dirname "$0")}"

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

write() { # NAME LINE...
    name=$1
    shift
    [ -e "$name.env" ] || printf '%s\n' "$@" >"$name.env"
}

if [ ! -e roles.env ]; then
    service=$(secret) console=$(secret) guard=$(secret)
    rm -f service.env console.env guard.env
    write roles "PARETUNE_SERVICE_PASSWORD=$service" "PARETUNE_CONSOLE_PASSWORD=$console" "PARETUNE_GUARD_PASSWORD=$guard"
    write service "PGPASSWORD=$service"
    write console "PGPASSWORD=$console"
    write guard "PGPASSWORD=$guard"
fi
owner=$(secret)
write owner "POSTGRES_PASSWORD=$owner" "PGPASSWORD=$owner"
write redis "REDISCLI_AUTH=$(secret)"
write grafana "GF_SECURITY_ADMIN_PASSWORD=$(secret)"
