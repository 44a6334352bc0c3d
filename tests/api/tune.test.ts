// What a tuning concludes from its runs. The runs themselves are in tests/e2e.
import { describe, expect, test } from "vitest";
import { decoding, formatTuneTable, labelOf, recommend, type TuneRow } from "../../www/embergram/tune.js";
import { withRates } from "../../www/embergram/stats.js";
import type { RequestOutput, SpeculativeConfig } from "../../www/embergram/types.js";

const ngram = (k: number | "auto", min?: number, max?: number): SpeculativeConfig => ({
  method: "ngram", num_speculative_tokens: k,
  ...(min !== undefined && { prompt_lookup_min: min }), ...(max !== undefined && { prompt_lookup_max: max }),
});

function row(config: SpeculativeConfig | null, ...rates: number[]): TuneRow {
  const sorted = [...rates].sort((a, b) => a - b);
  return {
    label: labelOf(config), config, seconds: 2, tokens: 100, steps: 50, tokens_per_second: sorted[sorted.length >> 1]!,
    tokens_per_second_by_round: rates,
    ...withRates(
      config
        ? { num_drafts: 10, num_draft_tokens: 30, num_accepted_tokens: 12, num_accepted_tokens_per_pos: [8, 3, 1] }
        : { num_drafts: 0, num_draft_tokens: 0, num_accepted_tokens: 0, num_accepted_tokens_per_pos: [] },
    ),
  };
}

test.each([
  [null, "none"],
  [ngram(5), "K=5, lookup 5"],
  [ngram(3, 2, 4), "K=3, lookup 2-4"],
  [ngram("auto", undefined, 3), "K=auto, lookup 3"],
  [ngram(1, 2), "K=1, lookup 2"],
  [{ ...ngram("auto"), max_speculative_tokens: 4 }, "K=auto to 4, lookup 5"],
])("the label of %j is %s", (config, label) => expect(labelOf(config)).toBe(label));

describe("recommends", () => {
  const chosen = (...rows: TuneRow[]) => recommend(rows);

  test("the fastest", () => {
    const best = ngram(5, 2, 4);
    expect(chosen(row(null, 10), row(ngram(3), 12), row(best, 15))).toEqual({
      recommendation: best, recommended: "K=5, lookup 2-4",
      reason: expect.stringContaining("50.0 % faster than no speculation (15.0 tokens/s against 10.0 tokens/s)"),
    });
  });
  test("none where that is the fastest, or as fast within noise", () => {
    expect(chosen(row(ngram(3), 8), row(null, 10))).toMatchObject({ recommendation: null, reason: expect.stringContaining("fastest") });
    expect(chosen(row(null, 10), row(ngram(3), 10.2))).toMatchObject({ recommendation: null, reason: expect.stringContaining("within the noise of 3.0 %") });
    // The rounds vary by a fifth: a gain of a tenth says nothing.
    expect(chosen(row(null, 8, 10, 12), row(ngram(3), 11, 11, 11))).toMatchObject({
      recommendation: null, reason: expect.stringContaining("within the noise of 20.0 %"),
    });
    expect(chosen(row(null, 10, 10, 10), row(ngram(3), 11, 11, 11)).recommendation).not.toBeNull();
  });
  test("the fastest of those there are, and says what it was not compared with", () => {
    expect(chosen(row(ngram(3), 8), row(ngram(5), 9))).toMatchObject({ recommended: "K=5, lookup 5", reason: expect.stringContaining("add null") });
  });
  test("nothing that never drafted: its gain is noise", () => {
    const silent = { ...row(ngram(5), 15), num_drafts: 0, num_draft_tokens: 0 };
    expect(chosen(row(null, 10), silent)).toMatchObject({ recommendation: null, reason: expect.stringContaining("never drafted") });
  });
  test("none where nothing was decoded", () => {
    expect(chosen(row(ngram(3), 0), row(null, 0))).toMatchObject({ recommendation: null, reason: expect.stringContaining("raise max_tokens") });
  });
});

test("decoding is timed from the first token of all, whose step's tokens do not count", () => {
  const output = (tokens: number, first: number | null, last: number | null) =>
    ({ token_ids: Array(tokens).fill(0), metrics: { first_token_ts: first, last_token_ts: last } }) as never;
  const of = (...outputs: never[]) => [{ outputs }] as unknown as RequestOutput[];
  expect(decoding(of(output(5, 1, 3), output(4, 1, 2.5)))).toEqual({ seconds: 2, tokens: 7 });
  // The second prompt came later: all its tokens fell into the time.
  expect(decoding(of(output(5, 1, 3), output(4, 2, 5)))).toEqual({ seconds: 4, tokens: 8 });
  expect(decoding(of(output(1, 1, 1)))).toEqual({ seconds: 0, tokens: 0 });
  expect(decoding(of(output(0, null, null)))).toEqual({ seconds: 0, tokens: 0 });
});

test("the table has a line a setting, aligned, and the reason", () => {
  const rows = [row(null, 10), row(ngram(3, 2, 4), 15)];
  const lines = formatTuneTable({ rows, ...recommend(rows), same_tokens: true, disturbed: false }).split("\n");
  expect(lines).toHaveLength(5);
  expect(lines[1]).toMatch(/^none +2\.00 +100 +10\.0 +1\.00 +50 +0 +0\/0 +- +- +-$/);
  expect(lines[2]).toMatch(/^K=3, lookup 2-4 \* +2\.00 +100 +15\.0 +1\.50 +50 +10 +12\/30 +40% +2\.20 +80% 30% 10%$/);
  expect(new Set(lines.slice(0, 3).map((line) => line.search(/(tokens\/s|10\.0|15\.0)/) + /(tokens\/s|10\.0|15\.0)/.exec(line)![0].length)).size).toBe(1);
  expect(lines[4]).toMatch(/^\* K=3, lookup 2-4 is 50\.0 % faster/);
});
