import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decodeFrame } from "../src/decode.js";
import { Image } from "../src/image.js";
import { updateToJson } from "../src/json.js";

interface Vectors {
  name: string;
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

  test.each(vectors.frames)("$name", ({ hex, json }) => {
    const message = decodeFrame(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    if (message.type === "welcome") image.begin(message);
    const decoded = message.type === "update" ? updateToJson(image.apply(message)) : message;
    expect(decoded).toEqual(json);
  });
});
