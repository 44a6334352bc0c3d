/** What comlink does not do by itself: errors cross with their code, callbacks are let go of. */
import { proxy, releaseProxy, transferHandlers, type ProxyMarked } from "comlink";
import { EmbergramError, asEmbergramError, type ErrorCode } from "./error.js";

interface Thrown {
  value: unknown;
}

/** Makes thrown errors arrive as {@link EmbergramError} with their `code`. For both ends. */
export function passErrors(): void {
  const thrown = transferHandlers.get("throw")!;
  transferHandlers.set("throw", {
    canHandle: thrown.canHandle,
    serialize: ({ value }: Thrown) => {
      const { code, message } = asEmbergramError(value);
      return [{ code, message }, []];
    },
    deserialize: ({ code, message }: { code: ErrorCode; message: string }) => {
      throw new EmbergramError(code, message);
    },
  });
}

/** A callback that may cross to a worker. */
export function callback<F extends (...args: never[]) => void>(f: F): F & ProxyMarked {
  return proxy(f);
}

/** Lets go of a callback that came from the other side. */
export function release(f: unknown): void {
  (f as { [releaseProxy]?: () => void } | undefined)?.[releaseProxy]?.();
}
