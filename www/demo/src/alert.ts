import { EmbergramError } from "embergram";
import { byId, make } from "./dom.js";

/** Shows what went wrong, until it is dismissed or something works again. An abort is the user's own wish: not shown. */
export function showError(error: unknown): void {
  if (error instanceof EmbergramError && error.code === "aborted") return;
  const code = error instanceof EmbergramError ? error.code : "error";
  const message = error instanceof Error ? error.message : String(error);
  const close = make("button", { type: "button", ariaLabel: "Dismiss" }, "×");
  close.addEventListener("click", hideError);
  byId("alert").replaceChildren(make("p", {}, make("code", {}, code), " ", message), close);
}

export function hideError(): void {
  byId("alert").replaceChildren();
}

export function setUpAlert(): void {
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideError();
  });
}
