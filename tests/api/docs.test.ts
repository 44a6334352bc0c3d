// docs/api.md is generated (`npm run docs`); here it is generated again and compared.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "embergram-docs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("docs/api.md is what the types say: after a change run `npm run docs`", () => {
  const typedoc = [join(root, "node_modules/typedoc/bin/typedoc"), "--options", join(root, "typedoc.json"), "--out", folder];
  const { status, stderr } = spawnSync(process.execPath, typedoc, { encoding: "utf8", cwd: root });
  expect(status, stderr).toBe(0);
  for (const file of ["api.md", "api/namespaces/OpenAITypes.md"]) {
    expect(readFileSync(join(root, "docs", file), "utf8")).toBe(readFileSync(join(folder, file), "utf8"));
  }
});
