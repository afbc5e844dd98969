import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { Server } from "./server.js";

/** The client as others get it: packed, installed into an empty project, and used as its README says. */

const WEB = join(import.meta.dirname, "..");

let project: string;
let packed: { filename: string; files: { path: string }[]; size: number };

test.beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "tickcast-client-"));
  const packing = ["pack", "--json", "--silent", "--pack-destination", project];
  [packed] = JSON.parse(run("npm", packing, join(WEB, "client"))) as [typeof packed];
  // Its one dependency from where it is installed already: nothing is fetched.
  const dependencies = {
    "@msgpack/msgpack": `file:${join(WEB, "node_modules/@msgpack/msgpack")}`,
    "@tickcast/client": `file:${packed.filename}`,
  };
  const manifest = { private: true, type: "module", dependencies };
  writeFileSync(join(project, "package.json"), JSON.stringify(manifest));
  run("npm", ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund"], project);
  // What the examples need besides.
  for (const name of ["ws", "@types"])
    symlinkSync(join(WEB, "node_modules", name), join(project, "node_modules", name));
});

test.beforeEach(() => test.setTimeout(180_000));

test.afterAll(() => rmSync(project, { recursive: true, force: true }));

test("the package holds what is used, and nothing else", () => {
  const paths = packed.files.map(({ path }) => path);
  const outside = paths.filter((path) => !path.startsWith("dist/"));
  expect(outside.sort()).toEqual(["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json"]);
  expect(paths).toContain("dist/index.js");
  expect(paths).toContain("dist/index.d.ts");
  const others = paths.filter(
    (path) => path.startsWith("dist/") && !/^dist\/(transports\/)?[\w-]+(\.d\.ts|\.js)$/.test(path),
  );
  expect(others).toEqual([]);
  expect(packed.size).toBeLessThan(84_000);
  const { dependencies } = manifestOf("@tickcast/client");
  expect(Object.keys(dependencies)).toEqual(["@msgpack/msgpack"]);
});

const snippets = [...snippetsOf("client/README.md"), ...snippetsOf("../README.md")];

test("the READMEs have examples", () => expect(snippets.length).toBeGreaterThanOrEqual(5));

/** Those for pages compile here; pages themselves are tested in the browser. */
const isForPages = ({ code }: Snippet) =>
  /\b(document|addEventListener|followVisibility)\b/.test(code);

test("the examples of the READMEs compile as strictly as a user might compile them", () => {
  for (const { file, code } of snippets) writeFileSync(join(project, `${file}.ts`), code);
  compile(
    "ES2022",
    snippets.filter((snippet) => !isForPages(snippet)),
  );
  compile("ES2022,DOM", snippets.filter(isForPages));
});

for (const { place, file } of snippets.filter((snippet) => !isForPages(snippet)))
  test(`the example at ${place} runs as it stands`, async () => {
    const server = await Server.on();
    await server.start();
    try {
      const code = readFileSync(join(project, `${file}.js`), "utf8");
      const here = code.replaceAll("ws://127.0.0.1:8080/", server.url.replace("http", "ws"));
      writeFileSync(join(project, `${file}.js`), here);
      await printsSomething(`${file}.js`);
    } finally {
      await server.kill();
    }
  });

test("close ends a program at once, also where the server no longer answers", async () => {
  const server = await Server.on();
  await server.start();
  try {
    const program = `
      import { TickcastClient } from "@tickcast/client";
      import { WebSocket } from "ws";
      const client = new TickcastClient("${server.url.replace("http", "ws")}v1/ws", { WebSocket });
      client.on("update", () => console.log("update"));
      client.subscribe(["quote:*"]);
      client.connect();
      process.stdin.once("data", () => {
        process.stdin.destroy();
        console.log("close");
        client.close();
      });`;
    writeFileSync(join(project, "ends.js"), program);
    const child = spawn(process.execPath, ["ends.js"], { cwd: project });
    try {
      const exited = once(child, "exit");
      let output = "";
      child.stdout.on("data", (data: Buffer) => (output += String(data)));
      await expect.poll(() => output).toContain("update");
      server.freeze();
      child.stdin.write("now");
      await expect.poll(() => output).toContain("close");
      const began = performance.now();
      expect(await exited).toEqual([0, null]);
      // The WebSocket itself would wait for 30 s.
      expect(performance.now() - began).toBeLessThan(15_000);
    } finally {
      child.kill("SIGKILL");
    }
  } finally {
    await server.kill();
  }
});

interface Snippet {
  place: string;
  file: string;
  code: string;
}

function snippetsOf(readme: string): Snippet[] {
  const text = readFileSync(join(WEB, readme), "utf8");
  return [...text.matchAll(/^```ts\n(.*?)^```/gms)].map(({ 1: code, index }) => {
    const place = `${readme.replace("../", "")}:${text.slice(0, index).split("\n").length}`;
    return { place, file: place.replaceAll(/\W+/g, "-"), code: code! };
  });
}

function compile(lib: string, snippets: Snippet[]): void {
  const tsc = join(WEB, "node_modules/typescript/bin/tsc");
  const flags =
    "--strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess --target ES2022 --module NodeNext --types node";
  const files = snippets.map(({ file }) => `${file}.ts`);
  run(process.execPath, [tsc, ...flags.split(" "), "--lib", lib, ...files], project);
}

/** Either it ends by itself, or it goes on until it is ended here. */
async function printsSomething(file: string): Promise<void> {
  const child = spawn(process.execPath, [file], { cwd: project });
  let output = "";
  let errors = "";
  child.stdout.on("data", (data: Buffer) => (output += String(data)));
  child.stderr.on("data", (data: Buffer) => (errors += String(data)));
  try {
    await expect.poll(() => output.split("\n").length).toBeGreaterThan(3);
    expect(errors).toBe("");
    expect([null, 0]).toContain(child.exitCode);
  } finally {
    child.kill();
  }
}

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")}: ${error ?? `${stdout}\n${stderr}`}`);
  return stdout;
}

function manifestOf(name: string): { dependencies: Record<string, string> } {
  const text = readFileSync(join(project, "node_modules", name, "package.json"), "utf8");
  return JSON.parse(text) as ReturnType<typeof manifestOf>;
}
