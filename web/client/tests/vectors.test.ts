import { readdirSync, readFileSync } from "node:fs";
import { decode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import { decodeFrame } from "../src/decode.js";
import { Image } from "../src/image.js";
import { updateToJson } from "../src/json.js";
import type { Epoch, Micros, Position } from "../src/protocol.js";

/** Frames of one session, in order. Updates count from the welcome. */
interface Vectors {
  name: string;
  welcome?: { position: Position; time: Micros };
  frames: { name: string; hex: string; json: unknown }[];
}

const directory = new URL("../../../tests/vectors/", import.meta.url);
const files = readdirSync(directory).filter((name) => name.endsWith(".json"));

test("there are golden vectors", () => {
  expect(files).not.toEqual([]);
});

describe.each(files)("%s", (file) => {
  const vectors = JSON.parse(readFileSync(new URL(file, directory), "utf8")) as Vectors;
  const image = new Image();
  if (vectors.welcome) image.begin({ epoch: 0 as Epoch, ...vectors.welcome });

  test.each(vectors.frames)("$name", ({ hex, json }) => {
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    expect(file === "requests.json" ? decode(bytes) : decodedJson(bytes)).toEqual(json);
  });

  function decodedJson(bytes: Uint8Array): object {
    const message = decodeFrame(bytes);
    return message.type === "update" ? updateToJson(image.apply(message)) : message;
  }
});
