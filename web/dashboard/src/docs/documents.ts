/** What the page shows of the server's two documents. Pure: no DOM, no fetch. */

/** A part of JSON Schema, as the documents have it. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: (Schema | true)[];
  oneOf?: (Schema | true)[];
  additionalProperties?: boolean | Schema;
  minimum?: number;
  maximum?: number;
  default?: unknown;
}

export interface Parameter {
  name: string;
  in: "query" | "path";
  description: string;
  required?: boolean;
  schema: Schema;
  example?: string | number;
}

interface Content {
  schema: Schema;
  example?: unknown;
}

interface Response {
  description: string;
  content?: Record<string, Content>;
}

interface OpenOperation {
  operationId: string;
  tags: string[];
  summary: string;
  description?: string;
  parameters?: (Parameter | { $ref: string })[];
  requestBody?: { content: Record<string, Content> };
  responses: Record<string, Response | { $ref: string }>;
}

export interface OpenApi {
  info: { title: string; version: string };
  tags: { name: string; description: string }[];
  paths: Record<string, Record<string, OpenOperation>>;
  components: unknown;
}

interface AsyncMessage {
  name: string;
  summary: string;
  payload: Schema;
  examples: { name: string; payload: unknown }[];
}

export interface AsyncApi {
  components: { messages: Record<string, AsyncMessage>; schemas: Record<string, Schema> };
}

/** An HTTP request, as the page shows it. */
export interface Operation {
  id: string;
  tag: string;
  method: string;
  path: string;
  summary: string;
  description: string;
  parameters: Parameter[];
  /** Its media type and an example. */
  body: { type: string; example: string } | null;
  /** By media type, of the answer if all goes well. */
  answers: { type: string; example: string | null }[];
}

/** A message of a session, as the page shows it. */
export interface Message {
  id: string;
  name: string;
  /** Whether a client sends it. */
  isRequest: boolean;
  summary: string;
  fields: Row[];
  examples: { name: string; text: string }[];
}

/** A field of a message. */
export interface Row {
  name: string;
  type: string;
  required: boolean;
  about: string;
}

/** What a `$ref` of a document leads to. */
export function resolve<T extends object>(document: unknown, part: T | { $ref: string }): T {
  if (!("$ref" in part) || typeof part.$ref !== "string") return part as T;
  let target = document as Record<string, unknown>;
  for (const name of part.$ref.slice(2).split("/"))
    target = target[name.replaceAll("~1", "/").replaceAll("~0", "~")] as Record<string, unknown>;
  return target as T;
}

export function operations(document: OpenApi): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const done = Object.entries(operation.responses).find(([status]) => status < "300");
      const content = done ? (resolve<Response>(document, done[1]).content ?? {}) : {};
      const [body] = Object.entries(operation.requestBody?.content ?? {});
      return {
        id: operation.operationId,
        tag: operation.tags[0] ?? "",
        method: method.toUpperCase(),
        path,
        summary: operation.summary,
        description: operation.description ?? "",
        parameters: (operation.parameters ?? []).map((part) => resolve<Parameter>(document, part)),
        body: body ? { type: body[0], example: text(body[1].example) ?? "" } : null,
        answers: Object.entries(content).map(([type, { example }]) => ({
          type,
          example: text(example),
        })),
      };
    }),
  );
}

export function messages(document: AsyncApi): Message[] {
  return Object.entries(document.components.messages).map(([id, message]) => ({
    id,
    name: message.name,
    isRequest: id.startsWith("request."),
    summary: message.summary,
    fields: rows(document, message.payload),
    examples: message.examples.map(({ name, payload }) => ({ name, text: json(payload) })),
  }));
}

/** The fields of an object. */
export function rows(document: unknown, schema: Schema): Row[] {
  const { properties = {}, required = [] } = resolve(document, schema);
  return Object.entries(properties).map(([name, field]) => ({
    name,
    type: typeName(document, field),
    required: required.includes(name),
    about: field.description ?? resolve(document, field).description ?? "",
  }));
}

/** A schema in a few words. */
export function typeName(document: unknown, schema: Schema | true): string {
  if (schema === true) return "any";
  const target = resolve(document, schema);
  if (target.const !== undefined) return JSON.stringify(target.const);
  if (target.enum) return target.enum.map((word) => JSON.stringify(word)).join(" | ");
  const parts = target.anyOf ?? target.oneOf;
  if (parts) return [...new Set(parts.map((part) => typeName(document, part)))].join(" | ");
  const types = [target.type ?? "any"].flat();
  const names = types.map((type) =>
    type === "array" && target.items ? `${typeName(document, target.items)}[]` : type,
  );
  return names.join(" | ");
}

/** A line for a shell that does this request at a server. `base` ends with a slash. */
export function curl(base: string, operation: Operation): string {
  let path = operation.path.slice(1);
  const query = new URLSearchParams();
  for (const { name, in: place, example } of operation.parameters) {
    if (example === undefined) continue;
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(example));
    else query.append(name, String(example));
  }
  // Commas and colons mean nothing in a query: so a person reads it.
  const asked = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  const url = quoted(`${base}${path}${asked === "" ? "" : `?${asked}`}`);
  if (isWebSocket(operation)) return `websocat ${quoted(url.slice(1, -1).replace(/^http/, "ws"))}`;
  const endless =
    operation.answers.some(({ type }) => type === "text/event-stream") || path === "v1/lines";
  if (!operation.body) return `curl ${endless ? "-N " : ""}${url}`;
  const { type, example } = operation.body;
  return `curl -H ${quoted(`Content-Type: ${type}`)} --data-binary ${quoted(example.trimEnd())} ${url}`;
}

function isWebSocket({ answers, path }: Operation): boolean {
  return answers.length === 0 && path === "/v1/ws";
}

/** As a shell takes it for one word. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function text(example: unknown): string | null {
  if (example === undefined) return null;
  return typeof example === "string" ? example : json(example);
}

/** JSON that fits the page: short lists and maps on a line of their own. */
export function json(value: unknown, width = 88, indent = ""): string {
  const line = JSON.stringify(value) ?? "";
  const spaced = line.length > width ? line : oneLine(value);
  if (indent.length + spaced.length <= width || typeof value !== "object" || value === null)
    return spaced;
  const inner = `${indent}  `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((part) => json(part, width, inner))
    : Object.entries(value).map(
        ([name, part]) => `${JSON.stringify(name)}: ${json(part, width, inner)}`,
      );
  return `${open}\n${parts.map((part) => inner + part).join(",\n")}\n${indent}${close}`;
}

function oneLine(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "";
  const parts = Object.entries(value).map(
    ([name, part]) => `${JSON.stringify(name)}: ${oneLine(part)}`,
  );
  return parts.length === 0 ? "{}" : `{ ${parts.join(", ")} }`;
}
