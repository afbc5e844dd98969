/** Typed events. A listener that throws does not stop the others. */
export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` for every event of `type` until the returned function is called. */
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void {
    let listeners = this.listeners.get(type);
    if (!listeners) this.listeners.set(type, (listeners = new Set()));
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void {
    for (const listener of this.listeners.get(type) ?? [])
      try {
        (listener as (event: Events[Type]) => void)(event);
      } catch (error) {
        surface(error);
      }
  }
}

/** Reports an error of the application as uncaught, without breaking the caller. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
