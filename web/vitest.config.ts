import { defineConfig, mergeConfig } from "vitest/config";
import vite from "./vite.config.js";

export default mergeConfig(
  vite,
  defineConfig({
    test: {
      root: import.meta.dirname,
      include: ["client/tests/**/*.test.ts", "dashboard/tests/**/*.test.ts"],
    },
  }),
);
