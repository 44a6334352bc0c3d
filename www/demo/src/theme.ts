import { byId } from "./dom.js";

const KEY = "embergram-demo-theme";

/** The system's theme, or the one that was chosen. `onChange` also hears of the system's change. */
export function setUpTheme(onChange: () => void): void {
  const select = byId<HTMLSelectElement>("theme");
  const apply = () => {
    document.documentElement.dataset["theme"] = select.value;
    onChange();
  };
  select.value = remembered();
  select.addEventListener("change", () => {
    remember(select.value);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  apply();
}

// Storage may be switched off; the choice then lasts as long as the page.
function remembered(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function remember(theme: string): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    return;
  }
}
