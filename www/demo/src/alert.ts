import { EmbergramError } from "embergram";
import { byId } from "./dom.js";

/** Shows what went wrong, until it is dismissed or something works again. An abort is the user's own wish: not shown. */
export function showError(error: unknown): void {
  if (error instanceof EmbergramError && error.code === "aborted") return;
  byId("alert-code").textContent = error instanceof EmbergramError ? error.code : "error";
  byId("alert-message").textContent = error instanceof Error ? error.message : String(error);
  byId("alert").hidden = false;
}

export function hideError(): void {
  byId("alert").hidden = true;
}

export function setUpAlert(): void {
  byId("alert-close").addEventListener("click", hideError);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideError();
  });
}
