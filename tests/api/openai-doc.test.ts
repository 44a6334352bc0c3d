// The tables of docs/openai.md are made of the data that the doors and the comparison go by. With UPDATE_DOCS=1 they are written.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FIELDS, type Field, type Use } from "../../www/embergram/openai/fields.js";
// @ts-expect-error: plain JavaScript
import { LEFT_OUT as given } from "../node/recorded.mjs";

const LEFT_OUT = given as readonly (readonly [name: string, what?: string, why?: string])[];
const path = fileURLToPath(new URL("../../docs/openai.md", import.meta.url));

function check(name: string, head: string, rows: readonly string[]): void {
  const page = readFileSync(path, "utf8");
  const [before, , after] = page.split(new RegExp(`(?<=<!-- ${name} -->\n)([^]*?)(?=<!-- /${name} -->)`));
  const made = before + head + rows.join("") + after;
  if (process.env["UPDATE_DOCS"]) writeFileSync(path, made);
  expect(page).toBe(made);
}

function meaning(use: Use): string {
  if (typeof use === "string") {
    return { sampling: "taken", template: "taken, by the chat template", used: "taken", extension: "taken" }[use];
  }
  if ("ignored" in use) return `without effect: ${use.ignored}`;
  const but = use.but.map((value) => `\`${JSON.stringify(value)}\``).join(", ");
  return `refused${but === "" ? "" : `, but for ${but}`}: ${use.refused}`;
}

const place = ({ chat, completion }: Field) => (chat && completion ? "both" : chat ? "chat" : "completions");

test("every code of an error has its remedy in docs/errors.md", () => {
  const source = readFileSync(fileURLToPath(new URL("../../www/embergram/error.ts", import.meta.url)), "utf8");
  const codes = [...source.split("export class")[0]!.matchAll(/^  \| "(\w+)"/gm)].map(([, code]) => code);
  const page = readFileSync(fileURLToPath(new URL("../../docs/errors.md", import.meta.url)), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+)` \| \S.* \| \S.* \|$/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(20);
  expect(rows).toEqual(codes);
});

test("the fields of requests", () => {
  const rows = Object.entries(FIELDS).map(([name, field]) => `| \`${name}\` | ${place(field)} | ${meaning(field.use)} |\n`);
  check("fields", "| field | of | |\n|---|---|---|\n", rows);
});

test("what is left out of the comparison", () => {
  const rows = LEFT_OUT.flatMap(([, what, why]) => (what === undefined ? [] : [`| ${what} | ${why} |\n`]));
  check("left out", "| left out | why |\n|---|---|\n", rows);
});
