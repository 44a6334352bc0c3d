import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.{mjs,ts}"],
    // Tests with a browser compute on its CPU adapter: minutes, not seconds.
    testTimeout: 1_800_000,
    hookTimeout: 300_000,
    // A CPU adapter compiles on one core and computes on all: two files at a time keep two cores busy.
    maxWorkers: 2,
  },
});
