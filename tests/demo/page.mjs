// The built demo page in a real Chromium, and what a person does with it.
import { launch } from "../../scripts/browser.mjs";
import { serveDemo } from "../../scripts/demo.mjs";

/** Counts how far the layout moves by itself; runs in the page before its scripts. */
function watchLayout() {
  globalThis.layoutShift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.layoutShift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
}

/**
 * Serves the page with these models and opens it. `headers`: what the server sends with everything; `webgpu`: whether the
 * browser has it; `query`: behind the page's address.
 */
export async function open(models, { headers, webgpu, query = "" } = {}) {
  const server = await serveDemo(models, { headers });
  const context = await launch({ args: ["--hide-scrollbars"], viewport: { width: 1440, height: 900 }, webgpu });
  context.setDefaultTimeout(1_200_000);
  const page = context.pages()[0];
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(error.message));
  await page.addInitScript(watchLayout);
  await page.goto(`${server.url}/${query}`);
  await page.waitForFunction(() => document.querySelector("#adapter").textContent !== "…");
  return { page, server, problems, user: new User(page), close: async () => (await context.close(), await server.close()) };
}

class User {
  constructor(page) {
    this.page = page;
  }

  text(selector) {
    return this.page.locator(selector).innerText();
  }

  /** Waits for the end of what the page is at. */
  async idle() {
    await this.page.waitForFunction(() =>
      ["stop", "tune-stop"].every((id) => document.getElementById(id).disabled) && document.getElementById("cancel-load").hidden);
  }

  /** Presses Load and waits; returns the status line. */
  async load() {
    // By the keyboard: a click waits for two frames, and while kernels of the model before compile there are none.
    await this.page.press("#load-button", "Enter");
    await this.idle();
    return this.text("#load-status");
  }

  async loadServed(name) {
    await this.page.check("[name=source][value=server]", { force: true });
    const value = await this.page.$eval("#server-models", (select, name) => [...select.options].find((o) => o.text.startsWith(`${name},`)).value, name);
    await this.page.selectOption("#server-models", value);
    return this.load();
  }

  async loadAddress(address) {
    await this.page.check("[name=source][value=address]", { force: true });
    await this.page.fill("#address", address);
    return this.load();
  }

  /** Chooses where the next load runs. */
  async choose({ backend, threads }) {
    await this.page.$eval("#load details", (details) => (details.open = true));
    if (threads !== undefined) await this.page.fill("[name=threads]", String(threads));
    await this.page.selectOption("[name=backend]", backend);
  }

  /** Fills settings by their names, unfolding them. */
  async set(settings) {
    await this.page.$eval("#settings details", (details) => (details.open = true));
    for (const [name, value] of Object.entries(settings)) {
      const field = this.page.locator(`#settings [name=${name}]`);
      if (name === "speculation") await field.selectOption(String(value));
      else await field.fill(String(value));
    }
  }

  /** Completes a prompt; returns the text and its stretches. */
  async complete(prompt) {
    await this.page.click("#tab-prompt");
    await this.page.fill("#prompt", prompt);
    await this.page.click("#run");
    await this.idle();
    return this.completion();
  }

  completion() {
    return this.page.$eval("#prompt-output", (output) => {
      const stretches = [...(output.children[1]?.childNodes ?? [])].map((node) => ({
        text: node.textContent, position: Number(node.dataset?.position ?? -1),
      }));
      return { stretches, text: [...output.childNodes].slice(1).map((node) => node.textContent).join("") };
    });
  }

  /** Has the model call the function of the form; returns its name and its arguments as they are shown. */
  async call() {
    await this.page.click("#tab-tool");
    await this.page.click("#run");
    await this.idle();
    return this.page.$eval("#tool-output", (output) => ({
      name: output.querySelector("code")?.textContent,
      given: Object.fromEntries([...output.querySelectorAll(".facts > div")].map((fact) => [fact.firstChild.textContent, JSON.parse(fact.lastChild.textContent)])),
    }));
  }

  /** Connects to a server. */
  async connect(address, key = "") {
    await this.page.check("[name=source][value=remote]", { force: true });
    await this.page.fill("#remote", address);
    await this.page.fill("#remote-key", key);
    return this.load();
  }

  /** Sends a chat message; returns the answer. */
  async say(message) {
    await this.page.click("#tab-chat");
    await this.page.fill("#message", message);
    await this.page.press("#message", "Enter");
    await this.page.waitForFunction(() => document.getElementById("message").value === "");
    await this.idle();
    return this.page.locator("#chat-output li:last-child > div").innerText();
  }

  /** What the raw panel shows of `getMetrics()`. */
  async metrics() {
    return JSON.parse(await this.page.locator("#panel-json").textContent());
  }

  /** The value of a metric. */
  async metric(name, labels = {}) {
    const metrics = await this.metrics();
    const found = metrics.find((m) => m.name === name && Object.entries(labels).every(([k, v]) => m.labels[k] === v));
    return found.value ?? found.values ?? found;
  }

  /** The code in the alert; null without one. */
  async alertCode() {
    const code = this.page.locator("[role=alert] code");
    return (await code.count()) > 0 ? code.innerText() : null;
  }
}
