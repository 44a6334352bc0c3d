import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  root: path("."),
  // Any folder of any host can serve the page.
  base: "./",
  // The built package, as one gets it from npm.
  resolve: { alias: { embergram: path("../../dist/index.js") } },
  build: {
    outDir: path("../../build/demo"),
    emptyOutDir: true,
    target: "es2022",
    // The page's Content-Security-Policy allows no data: addresses.
    assetsInlineLimit: 0,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
});
