import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

/** Asked for by the NOTICE of lightweight-charts, beside the link under the chart. */
const NOTICE = `TradingView Lightweight Charts™
Copyright (c) 2025 TradingView, Inc. https://www.tradingview.com/`;

/** Writes `licences.txt`: the licence of every package of which something is in the page. */
export function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const folders = new Set<string>();
      for (const id of this.getModuleIds()) {
        const [folder] =
          /^.*\/node_modules\/(@[^/]+\/)?[^/@]+(?=\/)/.exec(id.replaceAll("\\", "/")) ?? [];
        if (folder) folders.add(folder);
      }
      // Fonts come in by the style sheet, not as modules.
      folders.add(join(import.meta.dirname, "node_modules/@fontsource-variable/inter"));
      const texts = [...folders].map(licenceOf).sort();
      const source = ["Tickcast's dashboard contains these packages.", NOTICE, ...texts].join(
        "\n\n\n",
      );
      this.emitFile({ type: "asset", fileName: "licences.txt", source });
    },
  };
}

function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8"),
  ) as {
    name: string;
    version: string;
    license: string;
  };
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  const text = file ? readFileSync(join(folder, file), "utf8") : "";
  return `${name} ${version} (${license})\n\n${text}`.trim();
}
