#!/bin/sh
# Ask a running impression server to fetch its configuration now.
#
# usage: resync.sh TOKEN [BASE_URL]
#   TOKEN     the token that the server was started with
#   BASE_URL  default: $CAUSAL_ISERVER, else http://localhost:3004/iserver
#
# exit status: 0 the configuration is current        3 the token is missing or wrong (401, 403)
#              1 no server answers at that address   4 the configuration server cannot be reached (502)
#              2 wrong usage                         5 the new configuration is invalid (422)
#                                                    6 any other answer
set -u
if [ "$#" -lt 1 ] || [ "$#" -gt 2 ] || [ "$1" = "--help" ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    [ "${1:-}" = "--help" ] && exit 0
    exit 2
fi
base=${2:-${CAUSAL_ISERVER:-http://localhost:3004/iserver}}
# The token goes through standard input, so that the list of processes does not show it.
answer=$(printf 'header = "Authorization: Bearer %s"\n' "$1" |
    curl --silent --show-error --max-time 60 --request POST --config - --write-out '\n%{http_code}' "${base%/}/sync") || exit 1
status=${answer##*
}
body=${answer%
*}
case $status in
    200) printf '%s\n' "$body" ;;
    *) printf 'resync.sh: %s answered %s: %s\n' "${base%/}/sync" "$status" "$body" >&2 ;;
esac
case $status in
    200) exit 0 ;;
    401 | 403) exit 3 ;;
    502) exit 4 ;;
    422) exit 5 ;;
    *) exit 6 ;;
esac
