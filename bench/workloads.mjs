// The texts that speculation is measured on: two that repeat what the prompt says, and one that does not.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { humanEval } from "../scripts/setup.mjs";

/** HumanEval problems with short solutions, and what their function is to be called instead. */
const FUNCTIONS = {
  "HumanEval/2": "fractional_part", "HumanEval/13": "gcd", "HumanEval/23": "length", "HumanEval/28": "join_all",
  "HumanEval/34": "sorted_unique", "HumanEval/35": "largest", "HumanEval/42": "add_one", "HumanEval/45": "area",
  "HumanEval/53": "total", "HumanEval/60": "sum_up_to",
};

/** One worked example shows a base model what is asked. */
const RENAME_EXAMPLE = `Repeat this function with double renamed to twice.

def double(number: int) -> int:
    """ Return the number times two.
    """
    return number * 2

Answer:

def twice(number: int) -> int:
    """ Return the number times two.
    """
    return number * 2

`;

/** The problems by task id. */
function problems() {
  const path = humanEval();
  if (!existsSync(path)) throw new Error(`${path} is missing; run npm run setup`);
  const lines = gunzipSync(readFileSync(path)).toString().trim().split("\n");
  return Object.fromEntries(lines.map((line) => JSON.parse(line)).map((problem) => [problem.task_id, problem]));
}

function renames() {
  const all = problems();
  return Object.entries(FUNCTIONS).map(([id, name]) => {
    const { prompt, canonical_solution, entry_point } = all[id];
    const code = `${prompt}${canonical_solution}`.trim();
    return `${RENAME_EXAMPLE}Repeat this function with ${entry_point} renamed to ${name}.\n\n${code}\n\nAnswer:\n\n`;
  });
}

const CITIES = ["Lisbon", "Oslo", "Nairobi", "Lima", "Kyoto", "Quebec", "Riga", "Perth", "Cusco", "Turin"];

function record(i) {
  const city = CITIES[i % CITIES.length];
  return JSON.stringify(
    {
      id: 1000 + i * 37, city, station: `${city} Central`, open: i % 2 === 0,
      position: { latitude: 10.5 + i * 3.25, longitude: -20.75 + i * 7.5 }, lines: [`${city}-A`, `${city}-B`, `${city}-C`],
    },
    null, 2,
  );
}

const copies = () =>
  CITIES.map((_, i) => `Copy this record exactly.\n\n${record(i + 3)}\n\nCopy:\n\n${record(i + 3)}\n\nCopy this record exactly.\n\n${record(i)}\n\nCopy:\n\n`);

const STORIES = [
  "Once upon a time", "The lighthouse keeper had not spoken to anyone for eleven days when",
  "Nobody in the village believed the clockmaker's daughter until", "On the morning the river ran backwards,",
  "The last train left the station with only one passenger:", "In the drawer, beneath the letters, she found",
  "The mountain had a name that no one dared to say, and", "When the orchestra stopped playing,",
  "My grandfather kept a map of a country that did not exist, and", "It began to snow inside the library, and",
];

/** Prompts by workload. */
export function workloads() {
  return { rename: renames(), copy: copies(), story: STORIES };
}
