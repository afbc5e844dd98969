/** The server refused a request, and said why. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    /** As `docs/protocol.md` lists them. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}
