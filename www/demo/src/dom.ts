/** The element of this id, which the page's HTML has. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
}

/** An element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Partial<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Says something to those who listen to the page instead of looking at it. */
export function speak(text: string): void {
  byId("spoken").textContent = text;
}

/** Runs `update`; when it takes the focused one of these buttons away, the one that took its place gets the focus. */
export function keepFocus(buttons: readonly HTMLButtonElement[], update: () => void): void {
  const focused = buttons.find((button) => button === document.activeElement);
  const usable = (button: HTMLButtonElement) => !button.disabled && !button.hidden;
  update();
  if (focused && !usable(focused)) buttons.find(usable)?.focus();
}

/** Whether a form's fields are in range; points the first that is not out, and unfolds what hides it. */
export function valid(form: HTMLFormElement): boolean {
  const folded = form.querySelector(":invalid")?.closest("details");
  if (folded) folded.open = true;
  return form.reportValidity();
}

/** Makes a `role="tablist"` work: click, arrow keys, Home and End; tells which tab was chosen. */
export function tabs(tablist: Element, onChange: (tab: HTMLElement) => void): void {
  const all = [...tablist.querySelectorAll<HTMLElement>("[role=tab]")];
  const choose = (tab: HTMLElement) => {
    for (const each of all) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      byId(each.getAttribute("aria-controls")!).hidden = !chosen;
    }
    onChange(tab);
  };
  const steps: Record<string, (at: number) => number> = {
    ArrowRight: (at) => (at + 1) % all.length,
    ArrowLeft: (at) => (at + all.length - 1) % all.length,
    Home: () => 0,
    End: () => all.length - 1,
  };
  all.forEach((tab, at) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const next = all[steps[event.key]?.(at) ?? -1];
      if (!next) return;
      event.preventDefault();
      next.focus();
      choose(next);
    });
  });
}
