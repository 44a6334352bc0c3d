import { defineConfig } from "vitest/config";
import { define } from "./scripts/build.mjs";

export default defineConfig({
  define,
  test: {
    include: ["tests/**/*.test.{mjs,ts}"],
    // Tests with a browser compute on its CPU adapter: minutes, not seconds.
    testTimeout: 600_000,
    hookTimeout: 300_000,
    // A CPU adapter compiles on one core and computes on all: two files at a time keep two cores busy.
    maxWorkers: 2,
    // The built package runs as it is.
    server: { deps: { external: [/\/dist\//] } },
  },
});
