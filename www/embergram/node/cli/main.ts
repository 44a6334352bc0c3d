#!/usr/bin/env node
/** The command line: `npx embergram generate|chat|bench|serve MODEL`. */
import { printable } from "../../../../scripts/terminal.mjs";
import { EmbergramError } from "../index.js";
import { bench } from "./bench.js";
import { chat } from "./chat.js";
import { generate } from "./generate.js";
import { HELP, readArguments, UsageError, type Arguments } from "./options.js";
import { serve } from "./serve.js";

const COMMANDS: Readonly<Record<string, (given: Arguments) => Promise<void>>> = { generate, chat, bench, serve };

async function main(): Promise<void> {
  const [name = "--help", ...rest] = process.argv.slice(2);
  if (["--help", "-h", "help"].includes(name) || rest.includes("--help")) return void console.log(HELP);
  const command = COMMANDS[name];
  if (!command) throw new UsageError(`there is no command '${name}'; commands are ${Object.keys(COMMANDS).join(", ")}`);
  await command(readArguments(name, rest));
}

// Whoever reads the text may have read enough.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});
main().catch((error: Error) => {
  const what = error instanceof EmbergramError ? `${error.code}: ${error.message}` : error instanceof UsageError ? error.message : (error.stack ?? error.message);
  console.error(`embergram: ${printable(what)}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
