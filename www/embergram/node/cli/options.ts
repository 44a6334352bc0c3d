/** What a command line says. */
import { parseArgs } from "node:util";
import type { EngineOptions, LoadOptions, SamplingParams, SpeculativeConfig } from "../index.js";

export const HELP = `embergram generate MODEL [PROMPT]   completes a prompt, or what comes by stdin
embergram chat MODEL                a conversation by the model's chat template
embergram bench MODEL               prompt and decode tokens/s
embergram serve MODEL               OpenAI's HTTP API on 127.0.0.1

MODEL is the path of a GGUF file or of a Hugging Face folder, an address, hf:owner/repo or hf:owner/repo:Q4_K_M.

  --max-tokens N       most tokens of an answer; default 256, bench 64
  --temperature T      0 is greedy; default what the model recommends, else 0
  --top-k N, --top-p P, --min-p P
  --seed N
  --ignore-eos         go on after the end-of-sequence token
  --speculate K        n-gram speculation with K draft tokens, or auto
  --lookup MIN-MAX     lengths of the n-grams to look up; default 2-4
  --threads N          1 to 64; default all cores but one, at most 8; of two cores both
  --precision NAME     full, or fast: activations of eight bits; default full
  --max-model-len N    most tokens of prompt and output; default what the model was trained for, or what fits
  --quantization TYPE  q8_0 or q4_0: what float weights become while they load
  --sha256 HEX         what the file must hash to
  --no-cache           keeps no download
  --json               generate, bench: one JSON object on stdout and nothing else
  --chat               generate: the prompt is a user's message
  --system TEXT        chat, or generate --chat: the system message
  --prompt-tokens N    bench: tokens of the prompt; default 128
  --repeat N           bench: how often; the medians count; default 3
  --port N             serve: default 8000
  --api-key KEY        serve: what clients must have as a bearer token; default $EMBERGRAM_API_KEY, or none
  --allowed-origins A,B  serve: pages of other machines that may ask; * is any
  --served-model-name NAME  what clients call the model; default its own name
  --help

Downloads lie in $EMBERGRAM_CACHE_DIR, by default $XDG_CACHE_HOME/embergram or ~/.cache/embergram. HF_ENDPOINT is where hf:
names are found, in place of https://huggingface.co.`;

/** A command line that means nothing. */
export class UsageError extends Error {}

/** A command line's options, read. */
export interface Arguments {
  model: string;
  prompt: string | undefined;
  load: Omit<LoadOptions, "model">;
  sampling: SamplingParams;
  json: boolean;
  chat: boolean;
  system: string | undefined;
  promptTokens: number;
  repeat: number;
  port: number;
  apiKey: string | undefined;
  origins: readonly string[] | undefined;
}

const text = { type: "string" } as const;
const flag = { type: "boolean", default: false } as const;
const OPTIONS = {
  "max-tokens": text, temperature: text, "top-k": text, "top-p": text, "min-p": text, seed: text, "ignore-eos": flag,
  speculate: text, lookup: text, threads: text, precision: text, "max-model-len": text, quantization: text, sha256: text, "no-cache": flag,
  json: flag, chat: flag, system: text, "prompt-tokens": text, repeat: text, port: text,
  "api-key": text, "allowed-origins": text, "served-model-name": text,
} as const;

/** Reads the options of a command. */
export function readArguments(command: string, args: string[]): Arguments {
  const { values, positionals } = parsed(args);
  const [model, ...words] = positionals;
  if (model === undefined) throw new UsageError(`give a model, for example: embergram ${command} model.gguf; embergram --help lists all options`);
  if (words.length > 0 && command !== "generate") throw new UsageError(`'${words[0]}' is one argument too many; ${command} takes a model alone`);
  const number = (name: keyof typeof OPTIONS) => {
    const value = values[name] as string | undefined;
    if (value === undefined) return undefined;
    if (value.trim() === "" || Number.isNaN(Number(value))) throw new UsageError(`--${name} is '${value}'; give a number`);
    return Number(value);
  };
  const atLeast1 = (name: keyof typeof OPTIONS, otherwise: number) => {
    const value = number(name) ?? otherwise;
    if (!Number.isInteger(value) || value < 1) throw new UsageError(`--${name} is ${value}; give a whole number from 1`);
    return value;
  };
  const { HF_ENDPOINT: hfEndpoint, EMBERGRAM_API_KEY: ownKey } = process.env;
  return {
    model,
    prompt: words.length > 0 ? words.join(" ") : undefined,
    load: given({
      threads: number("threads"), max_model_len: number("max-model-len"), sha256: values.sha256, hfEndpoint,
      precision: values.precision as EngineOptions["precision"], quantization: values.quantization as EngineOptions["quantization"],
      cache: values["no-cache"] ? false : undefined, speculative_config: speculation(values.speculate, values.lookup),
      served_model_name: values["served-model-name"],
    }),
    sampling: given({
      max_tokens: number("max-tokens"), temperature: number("temperature"), top_k: number("top-k"), top_p: number("top-p"),
      min_p: number("min-p"), seed: number("seed"), ignore_eos: values["ignore-eos"] || undefined,
    }),
    json: values.json,
    chat: values.chat,
    system: values.system,
    promptTokens: atLeast1("prompt-tokens", 128),
    repeat: atLeast1("repeat", 3),
    port: number("port") ?? 8000,
    apiKey: values["api-key"] ?? ownKey,
    origins: values["allowed-origins"]?.split(","),
  };
}

function parsed(args: string[]) {
  try {
    return parseArgs({ args: joined(args), allowPositionals: true, options: OPTIONS });
  } catch (error) {
    throw new UsageError((error as Error).message.split("\n")[0]!);
  }
}

/** The same with `--name=-1` for `--name -1`, which could be two options. */
function joined(args: string[]): string[] {
  const isNegative = (arg: string | undefined) => arg !== undefined && /^-[\d.]/.test(arg);
  const isName = (arg: string | undefined) => arg !== undefined && /^--[^=]+$/.test(arg);
  return args.flatMap((arg, i) => {
    if (isNegative(arg) && isName(args[i - 1])) return [];
    return isName(arg) && isNegative(args[i + 1]) ? [`${arg}=${args[i + 1]}`] : [arg];
  });
}

function speculation(speculate: string | undefined, lookup = "2-4"): SpeculativeConfig | undefined {
  if (speculate === undefined) return undefined;
  const [, min, max] = /^(\d+)-(\d+)$/.exec(lookup) ?? [];
  if (min === undefined) throw new UsageError(`--lookup is '${lookup}'; give two lengths, such as 2-4`);
  const k = speculate === "auto" ? speculate : Number(speculate);
  if (Number.isNaN(k)) throw new UsageError(`--speculate is '${speculate}'; give a number of draft tokens, or auto`);
  return { method: "ngram", num_speculative_tokens: k, prompt_lookup_min: Number(min), prompt_lookup_max: Number(max) };
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what was not said. */
function given<T extends object>(values: T): Given<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<T>;
}
