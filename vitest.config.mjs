import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.{mjs,ts}"],
    // Tests with a browser compute on its CPU adapter: minutes, not seconds; and one file at a time has both cores.
    testTimeout: 1_800_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
