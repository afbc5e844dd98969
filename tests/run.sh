#!/usr/bin/env bash
# Everything that must hold: formats, lints, documentation, and the tests of all languages, the browser's included.
# Installs what it needs and can, runs every step whatever became of those before, and ends with one line:
# N passed, N failed[, N skipped].
#
#   TICKCAST_DATA   where the source recordings are (default: ../shared/data beside the repository); their tests are
#                   skipped where it is missing
#   CHROMIUM        the browser (default: the distribution's)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

: "${TICKCAST_DATA:=$PWD/../shared/data}"
export TICKCAST_DATA
target=${CARGO_TARGET_DIR:-$PWD/target}
export TICKCAST_BIN=$target/release/tickcast
# The libraries are built once, for the released program and for the tests of it.
export CARGO_BUILD_BUILD_DIR=$target
# What tests start has overflow and assertions checked, and its place beside the released program.
checked=(--release --config tests/checked.toml --locked --target-dir "$target/checked")

logs=$(mktemp -d)
child=
# A line for each step: its name, what passed, failed and was skipped, and the seconds it took.
results=$logs/results
trap 'rm -rf "$logs"' EXIT
trap stop INT TERM

# Two cores are kept busy by what builds, beside what waits most of the time: what builds gives way to it (`nice`). Rust's
# tests hold many things to their time, so little runs beside them. What is measured runs alone, at the end.
main() {
    install_packages
    step "npm ci" 300 one install_node_modules
    lane web
    step "cargo fmt" 60 one cargo fmt --check
    step "release build" 1200 one cargo build --release --locked
    join

    lane pages
    step "test build" 1200 one nice -n 19 cargo test "${checked[@]}" --no-run
    step "cargo clippy" 900 one nice -n 19 cargo clippy "${checked[@]}" --all-targets -- -D warnings
    step "client alone" 600 one nice -n 19 cargo clippy "${checked[@]}" --lib --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" step "cargo doc" 600 one nice -n 19 cargo doc "${checked[@]}" --no-deps
    RUSTDOCFLAGS="-D warnings" step "client's doc" 600 one \
        nice -n 19 cargo doc "${checked[@]}" --no-deps --lib --no-default-features
    join

    lane other_languages
    # Many of them wait most of the time: four of them keep two cores busy.
    RUST_TEST_THREADS=4 step "cargo test" 1500 cargo cargo test "${checked[@]}" --no-fail-fast
    ignored_of "clocks" 300 --test-threads=1 server::clock::
    ignored_of "damaged files" 600 formats::
    if [[ -d $TICKCAST_DATA ]]; then
        ignored_of "recordings" 900 recordings:: sizes:: real_session::
    else
        printf '\nThe tests of the source recordings are skipped: %s is not there\n' "$TICKCAST_DATA"
    fi
    join

    ignored_of "pacing" 300 --test-threads=1 server::pacing::
    ignored_of "memory" 300 memory::
    ignored_of "recorder" 300 record::
    browser "measured page" 600 --project measured --workers 1

    not_run
    conclude
}

pages() {
    browser "browser" 1500 --project pages
}

# Clients that were written elsewhere. These wait for packages and for time to pass, most of the time.
other_languages() {
    VENV=$logs/venv step "python client" 300 lines check_protocol
    VENV=$logs/venv-doors NODE_MODULES=$logs/doors step "doors" 500 lines check_doors
    VENV=$logs/venv-exports step "exports" 900 lines check_exports
}

web() {
    step "web format" 120 one npm --prefix web run --silent format:check
    step "web lint" 180 one npm --prefix web run --silent lint
    step "web types" 180 one npm --prefix web run --silent typecheck
    step "vitest" 180 json npm --prefix web run --silent test -- \
        --reporter=default --reporter=json --outputFile.json="$logs/vitest.json"
}

# lane STEPS: runs a function of steps beside others, until `join` prints what it printed.
lane() {
    (
        trap - EXIT
        trap stop INT TERM
        "$1"
    ) >"$logs/lane $1" 2>&1 &
    lanes+=("$! $1")
}

lanes=()

join() {
    local lane
    for lane in "${lanes[@]}"; do
        # Its steps count what fails in them.
        wait "${lane%% *}" || row "${lane#* }" 0 1 0 0
        cat "$logs/lane ${lane#* }"
    done
    lanes=()
}

# Ends what runs, also in lanes.
stop() {
    # shellcheck disable=SC2046
    kill "$child" $(jobs -p) 2>/dev/null || true
    exit 130
}

# browser NAME SECONDS OPTION...: what is tested in a browser.
browser() {
    PLAYWRIGHT_JSON_OUTPUT_FILE="$logs/$1.json" \
        step "$1" "$2" json npm --prefix web run --silent test:browser -- --reporter=list,json "${@:3}"
}

# What the distribution has to give: a browser, the servers that tests start beside ours, clocks to set, and Python with pip.
install_packages() {
    local missing=()
    : "${CHROMIUM:=$(command -v chromium || command -v chromium-browser || echo /usr/bin/chromium)}"
    export CHROMIUM
    [[ -x $CHROMIUM ]] || missing+=(chromium)
    command -v redis-server >/dev/null || missing+=(redis-server)
    PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx)
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(faketime)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
    ((${#missing[@]})) || return 0

    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo "installing ${missing[*]}"
        local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 300 apt-get -qq)
        if "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null; then
            return 0
        fi
    fi
    echo "tests/run.sh: not installed, and cannot be installed from here: ${missing[*]}." \
        "What needs them fails or is skipped." >&2
}

# The stamp is build.rs's, which installs without what only tests need: so one of those has to be there, too.
install_node_modules() {
    if cmp -s web/package-lock.json web/node_modules/.installed-lock.json && [[ -x web/node_modules/.bin/vitest ]]; then
        echo "installed already"
    else
        # build.rs takes the same lock.
        flock web/.npm.lock npm --prefix web ci
    fi
}

# The client that was written from docs/protocol.md alone. Its packages go beside the logs, so that nothing stays.
check_protocol() {
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement tests/protocol/requirements.txt
    PYTHONDONTWRITEBYTECODE=1 "$VENV/bin/python" tests/protocol/check.py
}

# Other people's clients, unmodified.
check_doors() {
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement tests/doors/requirements.txt
    mkdir -p "$NODE_MODULES"
    cp tests/doors/package.json "$NODE_MODULES"
    npm --prefix "$NODE_MODULES" install --no-audit --no-fund --silent
    PYTHONDONTWRITEBYTECODE=1 "$VENV/bin/python" tests/doors/check.py
}

# What people compute with reads what is exported. Some 500 MB of packages.
check_exports() {
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement tests/exports/requirements.txt
    PYTHONDONTWRITEBYTECODE=1 "$VENV/bin/python" tests/exports/check.py
}

# ignored_of NAME SECONDS FILTER...: ignored tests with that in their names. Ignored are those that take long, those of
# the released program, those that measure, and those of the recordings, which run where the recordings are.
ignored_of() {
    step "$1" "$2" cargo cargo test "${checked[@]}" --test it -- --ignored --nocapture "${@:3}"
    ((ignored_run += passes + failures)) || true
}

ignored_run=0

# What stayed ignored.
not_run() {
    local rest
    rest=$(($(grep -cE '^test .* \.\.\. ignored' "$logs/cargo test.log" || true) - ignored_run))
    if ((rest > 0)); then
        row "not run" 0 0 "$rest" 0
    fi
}

# step NAME SECONDS COUNT COMMAND...: runs a command, and counts by COUNT: one (the step is the test), cargo, json,
# lines (it says `N passed, N failed` itself).
# Leaves the counts in passes, failures, skips.
step() {
    local name=$1 seconds=$2 count=$3 log=$logs/$1.log status=0 began=$SECONDS
    shift 3
    printf '\n== %s: %s\n' "$name" "$*"
    if [[ $(type -t "$1") == function ]]; then
        set -- bash -euo pipefail -c "$(declare -f "$1"); $1"
    fi
    : >"$log"
    timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1 </dev/null &
    child=$!
    tail --pid="$child" --sleep-interval=0.1 -n +1 -f "$log" &
    # Both in the background, because a trap runs only where the shell itself waits.
    wait "$child" || status=$?
    wait $!
    ((status != 124 && status != 137)) || echo "$name: stopped, as it did not end within $seconds s"

    passes=0 failures=0 skips=0
    case $count in
        one) ((status)) || passes=1 ;;
        cargo) read -r passes failures < <(count_cargo "$log") ;;
        json) read -r passes failures skips < <(count_json "$logs/$name.json") ;;
        lines) read -r passes failures < <(count_lines "$log") ;;
    esac
    # What ended badly without a failed test did not compile, crashed or hung; what ended well without a test ran none.
    ((failures > 0 || (status == 0 && passes > 0))) || failures=1
    row "$name" "$passes" "$failures" "$skips" $((SECONDS - began))
}

row() {
    printf '%-14s  %6d  %6d  %7d  %5ds\n' "$@" >>"$results"
}

count_cargo() {
    awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$1"
}

count_lines() {
    awk '/^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 } END { print passed + 0, failed + 0 }' "$1"
}

# The reports of vitest and of Playwright.
count_json() {
    node -e '
        const { stats, ...vitest } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
        const counts = stats
            ? [stats.expected + stats.flaky, stats.unexpected, stats.skipped]
            : [vitest.numPassedTests, vitest.numFailedTests, vitest.numPendingTests + vitest.numTodoTests];
        console.log(...counts);
    ' "$1" 2>/dev/null || echo 0 0 0
}

conclude() {
    printf '\n%-14s  %6s  %6s  %7s  %6s\n' step passed failed skipped time
    cat "$results"
    printf '%-14s  %31ds\n\n' all "$SECONDS"
    # The name may have blanks: counted from the end.
    awk '{ passed += $(NF - 3); failed += $(NF - 2); skipped += $(NF - 1) }
        END {
            printf "%d passed, %d failed", passed, failed
            if (skipped) printf ", %d skipped", skipped
            print ""
            exit failed > 0
        }' "$results"
}

main
