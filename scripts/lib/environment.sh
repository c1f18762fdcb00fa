# Sourced by scripts/start and scripts/test: makes the virtual environment, and brings it up to date when
# the project's requirements have changed since the last time.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "$0: Python 3.11 or newer is needed, and none was found (set PYTHON to its path)" >&2
    return 1
}

requirements_stamp() {
    cat setup.cfg pyproject.toml | cksum
}

# ensure_environment EXTRA: .venv holds the project (editable) with that extra.
ensure_environment() {
    local extra=$1 python stamp
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "making the virtual environment .venv"
        "$python" -m venv .venv
    fi
    stamp=".venv/installed-$extra"
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$(requirements_stamp)" ]; then
        echo "installing the project and what it needs [$extra]"
        .venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".[$extra]"
        requirements_stamp >"$stamp"
    fi
    # Daemons start faster from compiled modules, also where Python is told not to write any.
    .venv/bin/python -m compileall -q iserver metaserver replicaserver intake_server gateway shared
}

# ensure_debian PROGRAM=PACKAGE ...: install the packages whose program is missing, when that is possible.
ensure_debian() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # Services must not start by themselves: the tests start their own, on free ports.
        apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
    else
        echo "not root: install these Debian packages for the tests that need them: ${missing[*]}" >&2
    fi
}
