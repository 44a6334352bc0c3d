import { defineConfig } from "vitest/config";
import { define } from "./scripts/build.mjs";

export default defineConfig({
  define,
  test: {
    include: ["tests/**/*.test.{mjs,ts}"],
    // Tests with a browser compute on its CPU adapter: minutes, not seconds.
    testTimeout: 600_000,
    // A browser on a busy machine is late now and then. What fails twice is a fault; what passed the second time is marked.
    retry: 1,
    hookTimeout: 300_000,
    // A CPU adapter compiles on one core and computes on all: two files at a time keep two cores busy.
    maxWorkers: 2,
    // The built package runs as it is.
    server: { deps: { external: [/\/dist\//] } },
  },
});
