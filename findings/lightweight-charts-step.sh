#!/usr/bin/env bash
# lightweight-charts 5.2.1 takes as a price step (minMove) only what fits 1 a whole number of times, that number being made of twos
# and fives: 0.05 draws, 0.03 throws "unexpected base" from within the next animation frame, and the price axis has no labels.
#
# Expected: what its documentation asks for: no more decimals than `precision`. Rounding to the step, or an error from the call that sets it.
# Whom it hurts: instruments have such steps (0.03, 0.15, 0.0015); a page that takes them from reference data shows an empty chart.
# What helps: the last decimal as the step.
#
# Needs Chromium, in CHROMIUM or as the distribution names it.
set -euo pipefail
: "${CHROMIUM:=$(command -v chromium || command -v chromium-browser || echo /usr/bin/chromium)}"
[[ -x $CHROMIUM ]] || { echo "no Chromium: set CHROMIUM" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --no-package-lock lightweight-charts@5.2.1

# Each step in a page of its own, as an error ends the drawing of all charts of a page.
draw() {
    cat >page.html <<HTML
<!doctype html><div id="chart" style="width: 400px; height: 300px"></div><p id="seen"></p>
<script>$(<node_modules/lightweight-charts/dist/lightweight-charts.standalone.development.js)</script>
<script>
const seen = document.getElementById("seen");
window.addEventListener("error", (event) => (seen.textContent = event.message));
const chart = LightweightCharts.createChart("chart");
const series = chart.addSeries(LightweightCharts.LineSeries, { priceFormat: { type: "price", precision: 2, minMove: $1 } });
series.setData([{ time: 1, value: 10 }, { time: 2, value: 10.3 }]);
requestAnimationFrame(() => requestAnimationFrame(() => (seen.textContent ||= "drawn")));
</script>
HTML
    "$CHROMIUM" --headless --no-sandbox --disable-gpu --virtual-time-budget=2000 --user-data-dir="$folder/profile" \
        --dump-dom "file://$folder/page.html" 2>chromium.log | sed -n 's|.*<p id="seen">\(.*\)</p>.*|\1|p'
}

expect() {
    local seen
    seen=$(draw "$1")
    echo "minMove $1, precision 2 -> $seen"
    [[ $seen == "$2" ]] || { echo "it was \"$2\"" >&2; exit 1; }
}
echo "lightweight-charts $(node -p 'require("./node_modules/lightweight-charts/package.json").version')"
expect 0.05 "drawn"
expect 0.03 "Uncaught Error: unexpected base"
