// Tool calls out of texts as models of each family write them, whole and cut anywhere.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { callsSchema, extensionOf, familyOf, type MessageDelta, type MessageReader, type ToolBody } from "../../www/embergram/openai/tools/index.js";

const tool = (name: string, properties: Record<string, object>) => ({ type: "function", function: { name, parameters: { type: "object", properties } } });
const TOOLS = [
  tool("weather", { city: { type: "string" }, days: { type: "integer" }, unit: { enum: ["celsius", "fahrenheit"] } }),
  tool("now", {}), tool("note", { text: { type: "string" }, tags: { type: "array" } }),
];
/** A template of each family, in a few words. */
const TEMPLATES = {
  hermes: "<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>",
  qwen3_xml: "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>",
  mistral: "[AVAILABLE_TOOLS]{{ tools }}[/AVAILABLE_TOOLS] [TOOL_CALLS]",
  granite: "<|start_of_role|>assistant<|tool_call|>",
  phi4_mini_json: "<|tool|>{{ tools }}<|/tool|>",
  functiongemma: "<start_of_turn>model\n<start_function_call>call:",
  pythonic: "<|start_header_id|> [func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]",
  llama3_json: '<|start_header_id|> {"name": function name, "parameters": dictionary of argument name and its value}',
  gemma: "<start_of_turn>model",
};

interface Read {
  content: string | null;
  reasoning?: string;
  calls: [name: string, given: unknown][];
  finish?: string;
}

function readers(template: string | null, body: ToolBody = {}): () => MessageReader {
  return extensionOf({ tools: TOOLS, ...body }, template).reader;
}

function whole(reader: MessageReader, text: string): Read {
  const { message, finish_reason } = reader.whole(text);
  return {
    content: message.content, ...(message.reasoning_content !== undefined && { reasoning: message.reasoning_content }),
    calls: (message.tool_calls ?? []).map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    ...(finish_reason && { finish: finish_reason }),
  };
}

/** The same from pieces, put together as OpenAI's client does. */
function pieces(reader: MessageReader, texts: readonly string[]): Read {
  let content = "";
  let reasoning = "";
  let finish: string | undefined;
  const calls: { id?: string; name: string; given: string }[] = [];
  texts.forEach((text, i) => {
    const read = reader.delta(text, i === texts.length - 1);
    if (!read) return;
    const delta: MessageDelta = read.delta;
    content += delta.content ?? "";
    reasoning += delta.reasoning_content ?? "";
    for (const { index, id, type, function: { name, arguments: given } } of delta.tool_calls ?? []) {
      if (id !== undefined) {
        expect([type, index, typeof name]).toEqual(["function", calls.length, "string"]);
        calls.push({ id, name: name!, given });
      } else {
        expect([index, name]).toEqual([calls.length - 1, undefined]);
        calls[index]!.given += given;
      }
    }
    finish = read.finish_reason;
  });
  expect(new Set(calls.map(({ id }) => id)).size).toBe(calls.length);
  return {
    content, ...(reasoning !== "" && { reasoning }), calls: calls.map(({ name, given }) => [name, JSON.parse(given)]),
    ...(finish && { finish }),
  };
}

/** Whole, letter by letter, and cut in two and three places. */
function everyWay(template: string | null, text: string, expected: Omit<Read, "content"> & { content?: string | null }, body: ToolBody = {}): void {
  const reader = readers(template, body);
  const want = { content: expected.content ?? (expected.calls.length > 0 ? null : ""), ...expected };
  expect(whole(reader(), text)).toEqual(want);
  const streamed = { ...want, content: want.content ?? "" };
  const letters = [...text];
  expect(pieces(reader(), letters)).toEqual(streamed);
  expect(pieces(reader(), [...letters, ""])).toEqual(streamed);
  for (let cut = 1; cut < text.length; cut++) {
    expect(pieces(reader(), [text.slice(0, cut), text.slice(cut)]), `cut at ${cut}`).toEqual(streamed);
    const other = (cut * 7) % text.length;
    const [a, b] = [Math.min(cut, other), Math.max(cut, other)];
    expect(pieces(reader(), [text.slice(0, a), text.slice(a, b), text.slice(b)])).toEqual(streamed);
  }
}

const zurich: [string, unknown] = ["weather", { city: "Zürich \"west\"", days: 3 }];
const args = JSON.stringify(zurich[1]);
const finish = "tool_calls";

describe("each family's calls", () => {
  test.each<[keyof typeof TEMPLATES, string, Omit<Read, "content"> & { content?: string }]>([
    ["hermes", `<tool_call>\n{"name": "weather", "arguments": ${args}}\n</tool_call>`, { calls: [zurich], finish }],
    ["hermes", `I look.\n<tool_call>\n{"arguments": ${args}, "name": "weather"}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n`, { content: "I look.", calls: [zurich, ["now", {}]], finish }],
    ["hermes", `<tool_call>{"name": "now"}</tool_call>`, { calls: [["now", {}]], finish }],
    ["hermes", `Text with a < b and <tool and {"name": 1}`, { content: `Text with a < b and <tool and {"name": 1}`, calls: [] }],
    ["hermes", `<tool_call>\nnot JSON\n</tool_call>`, { content: `<tool_call>\nnot JSON\n</tool_call>`, calls: [] }],
    ["qwen3_xml", "<tool_call>\n<function=weather>\n<parameter=city>\nZürich \"west\"\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>", { calls: [zurich], finish }],
    ["qwen3_xml", "So:\n\n<tool_call>\n<function=note>\n<parameter=text>\n12\n</parameter>\n<parameter=tags>\n[\"a\", 1]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>", { content: "So:", calls: [["note", { text: "12", tags: ["a", 1] }], ["now", {}]], finish }],
    ["mistral", `[TOOL_CALLS] [{"name": "weather", "arguments": ${args}}, {"name": "now", "arguments": {}}]`, { calls: [zurich, ["now", {}]], finish }],
    ["mistral", `[TOOL_CALLS]weather[ARGS]${args}[TOOL_CALLS]now[ARGS]{}`, { calls: [zurich, ["now", {}]], finish }],
    ["mistral", `Well.[TOOL_CALLS]weather${args}`, { content: "Well.", calls: [zurich], finish }],
    ["granite", `<|tool_call|>[{"name": "weather", "arguments": ${args}}, {"name": "now", "arguments": {}}]`, { calls: [zurich, ["now", {}]], finish }],
    ["granite", `<tool_call>[{"name": "now", "arguments": {}}]`, { calls: [["now", {}]], finish }],
    ["granite", `<function_call> {"name": "now", "arguments": {}}`, { calls: [["now", {}]], finish }],
    ["phi4_mini_json", `functools[{"name": "weather", "arguments": ${args}}]`, { calls: [zurich], finish }],
    ["phi4_mini_json", `<|tool_call|>[{"name": "now", "arguments": {}}]<|/tool_call|>`, { calls: [["now", {}]], finish }],
    ["functiongemma", "<start_function_call>call:weather{city:<escape>Zürich \"west\"<escape>,days:3}<end_function_call>", { calls: [zurich], finish }],
    ["functiongemma", "<start_function_call>call:now{}<end_function_call><start_function_call>call:note{text:<escape>a:{b}<escape>,tags:[1,2]}<end_function_call>", { calls: [["now", {}], ["note", { text: "a:{b}", tags: [1, 2] }]], finish }],
    ["pythonic", `[weather(city='Zürich "west"', days=3), now()]`, { calls: [zurich, ["now", {}]], finish }],
    ["pythonic", `[note(text="a\\n\\"b\\"", tags=[1, -2.5e1, True, None, {"k": (1, 2)}])]`, { calls: [["note", { text: "a\n\"b\"", tags: [1, -25, true, null, { k: [1, 2] }] }]], finish }],
    ["pythonic", "[1, 2] is a list", { content: "[1, 2] is a list", calls: [] }],
    ["pythonic", "No call (at all).", { content: "No call (at all).", calls: [] }],
    ["llama3_json", `{"name": "weather", "parameters": ${args}}`, { calls: [zurich], finish }],
    ["llama3_json", `<|python_tag|>{"name": "weather", "parameters": ${args}}; {"name": "now", "parameters": {}}`, { calls: [zurich, ["now", {}]], finish }],
    ["llama3_json", `{"answer": 42}`, { content: `{"answer": 42}`, calls: [] }],
    ["llama3_json", "It is {not} a call.", { content: "It is {not} a call.", calls: [] }],
    ["gemma", "```tool_code\nweather(city='Zürich \"west\"', days=3)\n```", { calls: [zurich], finish }],
    ["gemma", "I look:\n```tool_code\n[weather(city=\"Zürich \\\"west\\\"\", days=3), now()]\n```", { content: "I look:", calls: [zurich, ["now", {}]], finish }],
    ["gemma", `\`\`\`json\n[{"name": "weather", "arguments": ${args}}]\n\`\`\``, { calls: [zurich], finish }],
    ["gemma", "```json\n{\"a\": 1}\n```\nis JSON.", { content: "```json\n{\"a\": 1}\n```\nis JSON.", calls: [] }],
    ["gemma", "```python\nprint(1)\n```", { content: "```python\nprint(1)\n```", calls: [] }],
  ])("%s: %s", (family, text, expected) => {
    expect(familyOf(TEMPLATES[family])).toBe(family);
    everyWay(TEMPLATES[family], text, expected);
  });

  test("an answer that is cut short tells what came of its calls, as far as they are JSON", () => {
    const reader = readers(TEMPLATES.hermes);
    expect(reader().whole('Hm.<tool_call>\n{"name": "weather", "arguments": {"ci').message.tool_calls).toEqual([
      { id: expect.stringMatching(/^chatcmpl-tool-[0-9a-f]{16}$/), type: "function", function: { name: "weather", arguments: '{"ci' } },
    ]);
    expect(reader().whole('<tool_call>\n{"na').message).toEqual({ content: '<tool_call>\n{"na' });
  });

  test("arguments are told as they come", () => {
    const reader = readers(TEMPLATES.hermes)();
    expect(reader.delta('<tool_call>\n{"name": "weather", ', false)!.delta.tool_calls).toEqual([
      { index: 0, id: expect.any(String), type: "function", function: { name: "weather", arguments: "" } },
    ]);
    expect(reader.delta('"arguments": {"city": "Zü', false)!.delta).toEqual({ tool_calls: [{ index: 0, function: { arguments: '{"city": "Zü' } }] });
    expect(reader.delta('rich"}', false)!.delta).toEqual({ tool_calls: [{ index: 0, function: { arguments: 'rich"}' } }] });
    expect(reader.delta("}\n</tool_call>", true)).toEqual({ delta: {}, finish_reason: "tool_calls" });
  });

  test("real templates are of the family that vLLM has for them", () => {
    const folder = join(import.meta.dirname, "../fixtures/templates");
    const found = readdirSync(folder).filter((name) => name.endsWith(".jinja"));
    const families = Object.fromEntries(found.map((name) => [name.replace(".jinja", ""), familyOf(readFileSync(join(folder, name), "utf8"))]));
    expect(families).toEqual({
      gemma3: "gemma", granite3: "granite", llama3: "llama3_json", "mistral-v0.3": "mistral", olmo2: undefined, phi3: undefined,
      "phi4-mini": "phi4_mini_json", "qwen2.5": "hermes", qwen3: "hermes", smollm2: undefined, smollm3: "hermes", tinyllama: undefined,
    });
  });
});

describe("what a request says of tools", () => {
  const params = (body: ToolBody, template: string | null = TEMPLATES.hermes) => extensionOf({ tools: TOOLS, ...body }, template);

  test("auto, and none", () => {
    expect(params({})).toMatchObject({ params: {}, template: { tools: TOOLS } });
    expect(params({ tool_choice: "none" })).toMatchObject({ params: {}, template: {} });
    expect(params({}, TEMPLATES.mistral).params).toEqual({ skip_special_tokens: false });
    const text = '<tool_call>{"name": "now", "arguments": {}}</tool_call>';
    everyWay(TEMPLATES.hermes, text, { content: text, calls: [] }, { tool_choice: "none" });
    everyWay(null, text, { content: text, calls: [] });
    everyWay(TEMPLATES.hermes, text.repeat(2), { calls: [["now", {}]], finish }, { parallel_tool_calls: false });
  });

  test("required and named calls are a grammar's", () => {
    const spaced = { "x-guidance": { whitespace_flexible: false, item_separator: ", ", key_separator: ": " } };
    const { structured_outputs: all } = params({ tool_choice: "required", parallel_tool_calls: false }, TEMPLATES.mistral).params;
    expect(all).toEqual({ json: { ...callsSchema(TOOLS.map((tool) => tool.function), 1), ...spaced } });
    expect(all!.json).toMatchObject({ type: "array", minItems: 1, maxItems: 1, items: { anyOf: [{ properties: { name: { const: "weather" } } }, {}, {}] } });
    const named = { tool_choice: { type: "function", function: { name: "now" } } };
    expect(params(named, null).params.structured_outputs!.json).toMatchObject({ maxItems: 1, items: { properties: { name: { const: "now" } } } });
    const text = `[{"name": "weather", "parameters": ${args}}, {"name": "now", "parameters": {}}]`;
    everyWay(TEMPLATES.mistral, text, { content: "", calls: [zurich, ["now", {}]], finish }, { tool_choice: "required" });
    // Hermes's own format, which its models have seen.
    const own = params({ tool_choice: "required" }).params.structured_outputs!.grammar!;
    expect(own).toMatch(/^start: call \("\\n" call\)\*\ncall: "<tool_call>\\n" body "\\n<\/tool_call>"\nbody: %json \{"anyOf":\[/);
    expect(params(named).params.structured_outputs!.grammar).toMatch(/^start: call\n.*\nbody: %json \{"type":"object","properties":\{"name":\{"const":"now"\},"arguments"/);
    const hermes = `<tool_call>\n{"name": "weather", "arguments": ${args}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>`;
    everyWay(TEMPLATES.hermes, hermes, { content: "", calls: [zurich, ["now", {}]], finish }, { tool_choice: "required" });
    // OpenAI and vLLM have a call of the caller's choice end with "stop".
    everyWay(null, `[{"name": "now", "parameters": {}}]`, { content: "", calls: [["now", {}]] }, named);
  });

  test("references of a tool's schema lead to where it is", () => {
    const parameters = { type: "object", properties: { a: { $ref: "#/$defs/a" }, me: { $ref: "#" } }, $defs: { a: { type: "integer" } } };
    expect(callsSchema([{ name: "f", parameters }], Infinity)).toEqual({
      type: "array", minItems: 1,
      items: { type: "object", properties: { name: { const: "f" }, parameters: { $ref: "#/$defs/tool0" } }, required: ["name", "parameters"], additionalProperties: false },
      $defs: { tool0: { type: "object", properties: { a: { $ref: "#/$defs/tool0/$defs/a" }, me: { $ref: "#/$defs/tool0" } }, $defs: { a: { type: "integer" } } } },
    });
  });

  test.each<[ToolBody, string]>([
    [{ tools: {} }, "tools is {}"],
    [{ tools: [{ type: "function", function: {} }] }, "tools[0].function.name is undefined"],
    [{ tools: [{ type: "retrieval" }] }, 'tools[0].type is "retrieval"'],
    [{ tools: [TOOLS[0], TOOLS[0]] }, "names must differ"],
    [{ tools: [], tool_choice: "auto" }, "tool_choice needs tools"],
    [{ tool_choice: "any" }, 'tool_choice is "any"'],
    [{ tool_choice: { type: "function", function: { name: "rain" } } }, 'tool_choice names "rain", but the tools are "weather", "now"'],
    [{ tool_choice: "required", response_format: { type: "json_object" } }, "give one"],
    [{ parallel_tool_calls: 1 }, "parallel_tool_calls is 1"],
    [{ response_format: { type: "xml" } }, 'response_format.type is "xml"'],
    [{ response_format: { type: "json_schema", json_schema: { schema: 3 } } }, "json_schema.schema must be"],
    [{ response_format: { type: "json_object" }, structured_outputs: { regex: "a" } }, "give one"],
  ])("%j is refused", (body, words) => {
    expect(() => params(body)).toThrow(expect.objectContaining({ code: "invalid_params", message: expect.stringContaining(words) }));
  });

  test("response_format is what the answer must fit", () => {
    const of = (response_format: object) => extensionOf({ response_format }, null).params;
    const schema = { type: "object", properties: {} };
    expect(of({ type: "text" })).toEqual({});
    expect(of({ type: "json_object" })).toEqual({ structured_outputs: { json_object: true } });
    expect(of({ type: "json_schema", json_schema: { name: "x", strict: true, schema } })).toEqual({ structured_outputs: { json: schema } });
    const tag = { structures: [{ begin: "<a>", schema, end: "</a>" }], triggers: ["<a"] };
    expect(of({ type: "structural_tag", ...tag })).toEqual({ structured_outputs: { structural_tag: tag } });
  });
});

describe("thoughts", () => {
  const THINKS = `${TEMPLATES.hermes} {% if '</think>' in content %}…{% endif %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}`;
  const OPENED = `</think>{% if add_generation_prompt %}<think>\n{% endif %}`;

  test("what is thought is told apart from what is said", () => {
    everyWay(THINKS, "<think>\na < b</th\n</think>\n\nIt rains.", { content: "It rains.", reasoning: "\na < b</th\n", calls: [] });
    everyWay(THINKS, "It rains. <think>no</think>", { content: "It rains. <think>no</think>", calls: [] });
    everyWay(THINKS, "<think>I look</think>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>", { reasoning: "I look", calls: [["now", {}]], finish });
    const untold = extensionOf({ tools: TOOLS, include_reasoning: false }, OPENED).reader().whole("a thought</think>said");
    expect(untold.message).toEqual({ content: "said" });
    everyWay(OPENED, "a thought</think>said", { content: "said", reasoning: "a thought", calls: [] });
    everyWay(OPENED, "a thought without end", { content: "", reasoning: "a thought without end", calls: [] });
    everyWay(TEMPLATES.hermes, "<think>x</think>y", { content: "<think>x</think>y", calls: [] });
  });
});
