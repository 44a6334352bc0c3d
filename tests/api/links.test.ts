// Links between the repository's pages lead somewhere, the index names every page, and troubleshooting names codes that exist.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const docs = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
const pages = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md", ...docs.map((name) => `docs/${name}`)];
const read = (page: string) => readFileSync(join(root, page), "utf8");

/** The anchors of a page's headings, as GitHub makes them, and those that it sets itself. */
function anchors(page: string): Set<string> {
  const text = read(page);
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title]) => title!.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-"));
  return new Set([...headings, ...[...text.matchAll(/<a id="([^"]+)"/g)].map(([, id]) => id!)]);
}

test.each(pages)("the links of %s", (page) => {
  const broken = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!).filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [path, anchor] = target.split("#");
    const to = path === "" ? page : join(dirname(page), path!);
    if (!existsSync(join(root, to))) return true;
    return anchor !== undefined && to.endsWith(".md") && !to.endsWith("api.md") && !anchors(to).has(anchor);
  });
  expect(broken).toEqual([]);
});

test("docs/README.md names every page", () => {
  const index = read("docs/README.md");
  expect(docs.filter((name) => name !== "README.md" && !index.includes(`(${name})`))).toEqual([]);
});

test("the codes of docs/troubleshooting.md are those of docs/errors.md", () => {
  const codes = [...read("docs/errors.md").matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, code]) => code!);
  // The first column names codes alone, or a code and what its message says.
  const first = [...read("docs/troubleshooting.md").matchAll(/^\| ([^|]*) \|/gm)].map(([, cell]) => cell!);
  const named = first.flatMap((cell) => [...cell.matchAll(/`([a-z]+_[a-z_]+|http|network|quota|cors|internal|unauthorized)`/g)].map(([, code]) => code!));
  expect(named.length).toBeGreaterThan(12);
  expect(named.filter((code) => !codes.includes(code) && code !== "finish_reason")).toEqual([]);
});
