/** Prompt, chat and tool call: streams text, stops, sums up. */
import { EmbergramError, type ChatMessage, type Delta, type Llm, type RequestOutput } from "embergram";
import { hideError, showError } from "./alert.js";
import { byId, keepFocus, make, tabs } from "./dom.js";
import * as format from "./format.js";
import type { Monitor } from "./monitor.js";
import { showRun } from "./backends-table.js";
import { readSettings, setUpSchema, type Settings } from "./settings.js";
import type { Store } from "./store.js";
import { TINTS, TokenView, Vocabulary } from "./token-view.js";
import { ToolPanel } from "./tool-panel.js";

const PROMPT = `def add(a, b):
    """Return the sum of a and b."""
    return a + b

def sub(a, b):
    """Return the difference of a and b."""
    return a - b

def mul(a, b):
    """Return the product of a and b."""
`;

export function setUpGeneratePanel(store: Store, monitor: Monitor): void {
  const run = byId<HTMLButtonElement>("run");
  const stop = byId<HTMLButtonElement>("stop");
  const newChat = byId<HTMLButtonElement>("new-chat");
  const prompt = byId<HTMLTextAreaElement>("prompt");
  const message = byId<HTMLTextAreaElement>("message");
  const promptOutput = byId("prompt-output");
  const chatOutput = byId("chat-output");
  const summary = byId("summary");
  const tool = new ToolPanel();
  let mode: "prompt" | "chat" | "tool" = "prompt";
  let history: ChatMessage[] = [];
  let aborter = new AbortController();
  let vocabulary: Vocabulary | null = null;

  prompt.value = PROMPT;
  setUpSchema();

  /** Streams one answer into `view`. Returns the request's outcome; `null` when it was stopped. */
  async function stream(
    start: (signal: AbortSignal) => AsyncGenerator<Delta, RequestOutput>, view: TokenView, scroller: HTMLElement, meter = new Meter(),
  ): Promise<RequestOutput | null> {
    const stream = start(aborter.signal);
    try {
      for (;;) {
        const { done, value } = await stream.next();
        if (done) {
          summary.textContent = describe(value);
          showRun(store.state.llm!, value, monitor);
          return value;
        }
        const follow = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
        view.push(value);
        meter.add(value.token_ids.length);
        if (follow) scroller.scrollTop = scroller.scrollHeight;
      }
    } catch (error) {
      if (!(error instanceof EmbergramError && error.code === "aborted")) throw error;
      summary.textContent = `Stopped after ${meter.tokens} tokens.`;
      return null;
    } finally {
      await view.end();
    }
  }

  async function complete(llm: Llm, { params }: Settings): Promise<void> {
    const meter = new Meter();
    const run = async ({ value }: HTMLTextAreaElement, output: HTMLElement) => {
      output.replaceChildren(make("span", { className: "echo" }, value));
      output.scrollTop = output.scrollHeight;
      const view = new TokenView(output, vocabulary!);
      return stream((signal) => llm.stream(value, params, { signal }), view, output, meter);
    };
    const second = byId<HTMLTextAreaElement>("prompt-2");
    const both = byId<HTMLDetailsElement>("second").open && second.value !== "";
    const secondOutput = byId("prompt-output-2");
    secondOutput.hidden = !both;
    const outputs = await Promise.all([run(prompt, promptOutput), both && run(second, secondOutput)]);
    const ended = outputs.filter((output) => output !== null && output !== false);
    if (ended.length > 1) summary.textContent = `Two prompts in shared steps: ${ended.map(describe).join("; ")}`;
  }

  async function reply(llm: Llm, { params, system }: Settings): Promise<void> {
    const asked: ChatMessage = { role: "user", content: message.value.trim() };
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...history, asked];
    const question = turn("You", asked.content);
    const answer = turn("Model", "");
    chatOutput.append(question, answer);
    chatOutput.scrollTop = chatOutput.scrollHeight;
    message.value = "";
    const view = new TokenView(answer.lastElementChild as HTMLElement, vocabulary!);
    try {
      await stream((signal) => llm.chatStream(messages, params, { signal }), view, chatOutput);
    } finally {
      if (view.text !== "") {
        history.push(asked, { role: "assistant", content: view.text });
      } else {
        // A turn without an answer is as if it had not been: the message is there to send again.
        question.remove();
        answer.remove();
        message.value = asked.content;
      }
    }
  }

  async function generate(): Promise<void> {
    const { llm, busy } = store.state;
    if (!llm || busy) return;
    const settings = readSettings();
    if (!settings) return;
    if (mode === "chat" && message.value.trim() === "") return message.focus();
    if (mode === "tool" && !tool.read()) return;
    hideError();
    aborter = new AbortController();
    store.set({ busy: "generate" });
    summary.textContent = "Generating…";
    byId("rate").textContent = "–";
    byId("generated").textContent = "";
    try {
      // A server's speculation is its own.
      if (llm.model.adapter.backend !== "server") await llm.setSpeculativeConfig(settings.speculation);
      const call = async () => (summary.textContent = await tool.ask(llm, settings, aborter.signal));
      await monitor.during<unknown>(() => ({ prompt: complete, chat: reply, tool: call })[mode](llm, settings));
    } catch (error) {
      summary.textContent = "Nothing was generated.";
      showError(error);
    } finally {
      store.set({ busy: null });
    }
  }

  tabs(byId("generate").querySelector("[role=tablist]")!, (tab) => {
    mode = tab.id.slice("tab-".length) as typeof mode;
    newChat.hidden = mode !== "chat";
    run.textContent = { prompt: "Generate", chat: "Send", tool: "Ask" }[mode];
    update();
  });
  run.addEventListener("click", () => void generate());
  stop.addEventListener("click", () => aborter.abort());
  newChat.addEventListener("click", () => {
    history = [];
    chatOutput.replaceChildren();
    message.focus();
  });
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void generate();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void generate();
  });

  const numbered = byId<HTMLInputElement>("numbered");
  numbered.addEventListener("change", () => byId("generate").toggleAttribute("data-numbered", numbered.checked));
  byId("ramp").append(...Array.from({ length: TINTS }, (_, i) =>
    make("span", { className: `key tint-${i}` }, i === TINTS - 1 ? `${i}+` : String(i))));

  let loaded: Llm | null = null;
  function update(): void {
    const { llm, busy } = store.state;
    const noTemplate = mode !== "prompt" && llm?.model.has_chat_template === false;
    keepFocus([run, stop], () => {
      run.disabled = !llm || busy !== null || noTemplate;
      stop.disabled = busy !== "generate";
    });
    newChat.disabled = busy !== null;
    byId("generate").toggleAttribute("data-busy", busy === "generate");
    if (llm !== loaded) {
      loaded = llm;
      vocabulary = llm && new Vocabulary(llm);
      history = [];
      chatOutput.replaceChildren();
      promptOutput.replaceChildren();
      byId("prompt-output-2").replaceChildren();
      tool.clear();
      summary.textContent = llm ? "Ready." : "Load a model to begin.";
      byId("rate").textContent = "–";
      byId("generated").textContent = "";
    }
    if (noTemplate && !busy) summary.textContent = "This model has no chat template: use Prompt.";
  }
  store.watch(update);
}

/** Tokens a second, live: over the whole answer, from its first step on. */
class Meter {
  tokens = 0;
  #first = 0;
  #began: number | undefined;

  add(tokens: number): void {
    this.tokens += tokens;
    const now = performance.now();
    if (this.#began === undefined) {
      this.#began = now;
      this.#first = tokens;
    }
    const elapsed = (now - this.#began) / 1000;
    byId("rate").textContent = elapsed > 0 ? format.rate((this.tokens - this.#first) / elapsed) : "–";
    byId("generated").textContent = `${this.tokens} tokens ·`;
  }
}

function turn(who: string, text: string): HTMLLIElement {
  const item = make("li", {}, make("span", { className: "who" }, who), make("div", {}, text));
  item.dataset["who"] = who.toLowerCase();
  return item;
}

/** A finished request in one line. */
function describe({ metrics, outputs, prompt_token_ids }: RequestOutput): string {
  const output = outputs[0]!;
  const tokens = output.token_ids.length;
  const parts = [`${prompt_token_ids.length} + ${tokens} tokens`, `first after ${format.seconds(metrics?.first_token_latency)}`];
  if (metrics?.decode_time && tokens > 1) parts.push(`${format.rate((tokens - 1) / metrics.decode_time)} tokens/s`);
  const speculation = metrics?.speculative_decoding;
  if (speculation && speculation.num_spec_steps > 0) {
    parts.push(`${format.percent(speculation.draft_acceptance_rate)} of drafts accepted`, `mean length ${format.fixed(speculation.mean_acceptance_length, 2)}`);
  }
  const ends: Partial<Record<string, string>> = { length: "cut at max tokens", stop: "ended by itself" };
  parts.push(ends[output.finish_reason ?? ""] ?? String(output.finish_reason));
  return parts.join(" · ");
}
