/** A function that the model is made to call, and the call as the function would get it. */
import type { Llm } from "embergram";
import { byId, make } from "./dom.js";
import { readJson, type Settings } from "./settings.js";

const QUESTION = "What is the weather in Zurich, in celsius?";
const FUNCTION = {
  name: "get_weather",
  description: "Current weather of a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string", maxLength: 30 }, unit: { enum: ["celsius", "fahrenheit"] } },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};

export class ToolPanel {
  readonly #question = byId<HTMLTextAreaElement>("tool-question");
  readonly #field = byId<HTMLTextAreaElement>("tool-function");
  readonly #output = byId("tool-output");
  #function: object = FUNCTION;

  constructor() {
    this.#question.value = QUESTION;
    this.#field.value = JSON.stringify(FUNCTION, null, 2);
    this.#field.addEventListener("input", () => this.#field.setCustomValidity(""));
  }

  /** Takes the function out of its field; false where that is no JSON, which is then pointed out. */
  read(): boolean {
    const read = readJson(this.#field);
    if (read) this.#function = read;
    return read !== null;
  }

  clear(): void {
    this.#output.replaceChildren();
  }

  /** Asks, shows the call, and sums up. */
  async ask(llm: Llm, { params, system }: Settings, signal: AbortSignal): Promise<string> {
    this.clear();
    const content = this.#question.value;
    const { structured_outputs: _, stop: __, ...own } = params;
    const { choices: [choice], usage } = await llm.chat.completions.create({
      messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content }],
      tools: [{ type: "function", function: this.#function }], tool_choice: "required", parallel_tool_calls: false, ...own,
    } as Parameters<typeof llm.chat.completions.create>[0] & { stream?: false }, { signal });
    const [call] = choice?.message.tool_calls ?? [];
    if (!call) return "The answer was cut before the call was whole: raise Max tokens.";
    this.#show(call.function);
    return `${usage?.prompt_tokens} + ${usage?.completion_tokens} tokens`;
  }

  #show({ name, arguments: given }: { name: string; arguments: string }): void {
    let values: [string, unknown][] = [];
    try {
      values = Object.entries(JSON.parse(given) as object);
    } catch {
      // Cut at max tokens: what there is of it.
      values = [["cut off", given]];
    }
    const facts = values.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, JSON.stringify(value))));
    this.#output.append(make("div", { className: "call" }, make("p", {}, "Calls ", make("code", {}, name), " with"), make("dl", { className: "facts" }, ...facts)));
  }
}
