/**
 * Calls every painter at most once per animation frame, however many updates came in between.
 * A hidden page paints nothing, and everything once when it is shown again.
 */
export class FrameLoop {
  private readonly painters = new Set<(now: number) => void>();
  private requested = false;

  /** Adds a painter until the returned function is called. */
  add(painter: (now: number) => void): () => void {
    this.painters.add(painter);
    this.request();
    return () => this.painters.delete(painter);
  }

  request(): void {
    if (this.requested) return;
    this.requested = true;
    requestAnimationFrame((now) => {
      this.requested = false;
      for (const painter of this.painters)
        try {
          painter(now);
        } catch (error) {
          reportError(error); // the others paint on
        }
    });
  }
}
