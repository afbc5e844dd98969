import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "rolldown";
import { dts } from "rolldown-plugin-dts";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

const input = { client: path("client/src/index.ts") };
const dir = process.env["WEB_OUT_DIR"] ?? path("dist");
const licence = readFileSync(path("node_modules/@msgpack/msgpack/LICENSE"), "utf8");

/** The client as one file that a page imports, `client.js`, and its types as another, `client.d.ts`. */
export default defineConfig([
  {
    input,
    transform: { target: "es2022" },
    output: {
      dir,
      minify: true,
      postBanner: `/*! Tickcast's client: MIT OR Apache-2.0. In it is @msgpack/msgpack:\n\n${licence}*/`,
    },
  },
  {
    input,
    plugins: [dts({ tsconfig: path("client/tsconfig.json"), emitDtsOnly: true })],
    output: { dir },
  },
]);
