// Type errors are test failures: `openai-types.ts` and the examples are compiled with the package's own settings.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test("the door's objects have OpenAI's types, and the examples compile", () => {
  const tsc = [path("../../node_modules/typescript/bin/tsc"), "-p", path("tsconfig.json")];
  const { stdout, status } = spawnSync(process.execPath, tsc, { encoding: "utf8" });
  expect(stdout).toBe("");
  expect(status).toBe(0);
});
