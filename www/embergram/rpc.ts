/** What comlink does not do by itself: errors cross with their code, callbacks are let go of. */
import { releaseProxy, transferHandlers } from "comlink";
import { EmbergramError, asEmbergramError } from "./error.js";

interface Thrown {
  value: unknown;
}

/** Makes thrown errors arrive as {@link EmbergramError} with their `code`. For both ends. */
export function passErrors(): void {
  const thrown = transferHandlers.get("throw")!;
  transferHandlers.set("throw", {
    canHandle: thrown.canHandle,
    serialize: ({ value }: Thrown) => {
      const { code, message, partial } = asEmbergramError(value);
      return [{ code, message, partial }, []];
    },
    deserialize: ({ code, message, partial }: Pick<EmbergramError, "code" | "message" | "partial">) => {
      throw new EmbergramError(code, message, { partial });
    },
  });
}

/** Lets go of a callback that came from the other side. */
export function release(f: unknown): void {
  (f as { [releaseProxy]?: () => void } | undefined)?.[releaseProxy]?.();
}
