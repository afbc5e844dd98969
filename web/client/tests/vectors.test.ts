import { readdirSync, readFileSync } from "node:fs";
import { decode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import { decodeFrame } from "../src/decode.js";
import { Image } from "../src/image.js";
import { updateToJson } from "../src/json.js";
import type { Epoch, Micros, Position } from "../src/protocol.js";
import { FIRST_SESSION, splitFrame } from "../src/session-number.js";

/** Frames of one connection, in order. Updates count from the welcome, those of further sessions from where these were opened. */
interface Vectors {
  name: string;
  welcome?: { position: Position; time: Micros };
  frames: { name: string; hex: string; json: unknown }[];
}

const directory = new URL("../../../tests/vectors/", import.meta.url);
const files = readdirSync(directory).filter(
  (name) => name.endsWith(".json") && name !== "schema.json",
);

test("there are golden vectors", () => {
  expect(files).not.toEqual([]);
});

describe.each(files)("%s", (file) => {
  const vectors = JSON.parse(readFileSync(new URL(file, directory), "utf8")) as Vectors;
  const images = new Map([[FIRST_SESSION, new Image()]]);
  if (vectors.welcome) begin(FIRST_SESSION, vectors.welcome);

  test.each(vectors.frames)("$name", ({ hex, json }) => {
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    expect(file === "requests.json" ? decode(bytes) : decodedJson(bytes)).toEqual(json);
  });

  function begin(session: number, at: { position: Position; time: Micros }): void {
    const image = images.get(session) ?? new Image();
    images.set(session, image);
    image.begin({ epoch: 0 as Epoch, position: at.position, time: at.time });
  }

  function decodedJson(bytes: Uint8Array): object {
    const { session, message: said } = splitFrame(bytes);
    const message = decodeFrame(said);
    if (message.type === "opened" && session !== FIRST_SESSION) begin(session, message);
    const json =
      message.type === "update" ? updateToJson(images.get(session)!.apply(message)) : message;
    return session === FIRST_SESSION ? json : { session, ...json };
  }
});
