// Type errors of the page are test failures.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test("the page's TypeScript compiles, strict", () => {
  const tsc = [path("../../node_modules/typescript/bin/tsc"), "-p", path("../../www/demo/tsconfig.json")];
  const { stdout, status } = spawnSync(process.execPath, tsc, { encoding: "utf8" });
  expect(stdout).toBe("");
  expect(status).toBe(0);
});
