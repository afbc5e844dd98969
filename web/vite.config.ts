import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import { licences } from "./licences.js";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Where `npm run dev` finds a running server. */
const server = process.env["TICKCAST_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  root: path("dashboard"),
  // Relative to the page, which a proxy may have put below a path of its own.
  base: "./",
  plugins: [svelte({ configFile: path("svelte.config.js") }), licences()],
  resolve: {
    alias: {
      "@tickcast/client": path("client/src/index.ts"),
    },
  },
  build: {
    // build.rs names a directory of its own, so that nothing generated lands in the source tree.
    outDir: process.env["WEB_OUT_DIR"] ?? path("dist"),
    emptyOutDir: true,
    rolldownOptions: {
      input: ["index.html", "ops.html", "docs.html"].map((page) => path(`dashboard/${page}`)),
    },
    // The page's content security policy knows no data: or inline sources for scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  server: { proxy: { "/v1": { target: server, ws: true } } },
});
