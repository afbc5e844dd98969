import { describe, expect, test } from "vitest";
import {
  replayApi,
  type ReplayAction,
  type ReplayApi,
  type ReplayState,
} from "../src/replay/api.js";
import { arrowStep, expected, Remote, speeds, stateText, timeText } from "../src/replay/remote.js";

const STATE: ReplayState = {
  kind: "replay",
  state: "playing",
  speed: 2,
  now: "2024-08-08T23:54:20.000Z",
  start: "2024-08-08T23:54:14.024619568Z",
  end: "2024-08-08T23:55:13.964968061Z",
  loop: false,
  controllable: true,
};

/** A server that answers when it is told to. */
class FakeServer implements ReplayApi {
  state: ReplayState | null = STATE;
  readonly sent: ReplayAction[] = [];
  readonly asked: { answer: (state: ReplayState | null) => void; refuse: (why: string) => void }[] =
    [];

  look(): Promise<ReplayState | null> {
    return this.ask();
  }

  send(action: ReplayAction): Promise<ReplayState> {
    this.sent.push(action);
    return this.ask() as Promise<ReplayState>;
  }

  private ask(): Promise<ReplayState | null> {
    return new Promise((resolve, reject) => {
      this.asked.push({ answer: resolve, refuse: (why) => reject(new Error(why)) });
    });
  }

  /** Answers the oldest question, and lets what follows from it happen. */
  async answer(change: Partial<ReplayState> = {}): Promise<void> {
    this.state = { ...STATE, ...this.state, ...change };
    this.asked.shift()!.answer(this.state);
    await settled();
  }

  async refuse(why: string): Promise<void> {
    this.asked.shift()!.refuse(why);
    await settled();
  }
}

/** Everything that waits for a promise that is settled has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

async function remoteOf(state: Partial<ReplayState> = {}) {
  const server = new FakeServer();
  const clock = { now: 1_000 };
  const remote = new Remote(
    server,
    () => clock.now,
    () => {},
  );
  void remote.look();
  await server.answer(state);
  return { server, clock, remote };
}

const at = (text: string) => Date.parse(text);

describe("a remote control", () => {
  test("carries the time on as fast as it runs, and not beyond the end", async () => {
    const { remote, clock } = await remoteOf();
    clock.now += 1_500;
    expect(remote.position).toBe(at(STATE.now) + 3_000);
    clock.now += 1e6;
    expect(remote.position).toBe(at(STATE.end!));
    const looped = await remoteOf({
      loop: true,
      start: "2024-08-08T23:54:14.000Z",
      end: "2024-08-08T23:55:14.000Z",
    });
    looped.clock.now += 28_000;
    expect(looped.remote.position).toBe(at("2024-08-08T23:54:16Z"));
    const paused = await remoteOf({ state: "paused" });
    paused.clock.now += 1_500;
    expect(paused.remote.position).toBe(at(STATE.now));
    // Nobody knows how fast that is.
    const unpaced = await remoteOf({ speed: "max" });
    unpaced.clock.now += 1_500;
    expect(unpaced.remote.position).toBe(at(STATE.now));
  });

  test("shows an action as done at once, and then what the server says", async () => {
    const { remote, server } = await remoteOf();
    remote.act({ action: "pause" });
    expect(remote.state?.state).toBe("paused");
    expect(remote.isBusy).toBe(true);
    await server.answer({ state: "paused", now: "2024-08-08T23:54:21.000Z" });
    expect(remote.isBusy).toBe(false);
    expect(remote.position).toBe(at("2024-08-08T23:54:21Z"));
  });

  test("takes back what the server refuses, and says why", async () => {
    const { remote, server } = await remoteOf();
    remote.act({ action: "pause" });
    remote.act({ action: "speed", speed: 10 });
    await server.refuse("the replay may not be controlled here");
    expect(remote.error).toBe("the replay may not be controlled here");
    expect(remote.state).toMatchObject({ state: "playing", speed: 2 });
    expect(server.sent).toEqual([{ action: "pause" }]);
    await server.answer({ controllable: false });
    expect(remote.isShown).toBe(false);
  });

  test("does one thing after the other, and of several places goes to the last", async () => {
    const { remote, server } = await remoteOf();
    remote.act({ action: "seek", to: "2024-08-08T23:54:30.000Z" });
    remote.act({ action: "seek", to: "2024-08-08T23:54:40.000Z" });
    remote.act({ action: "seek", to: "2024-08-08T23:54:50.000Z" });
    remote.act({ action: "pause" });
    expect(remote.position).toBe(at("2024-08-08T23:54:50Z"));
    await server.answer({ now: "2024-08-08T23:54:30.000Z" });
    // The place before is not shown in between.
    expect(remote.position).toBe(at("2024-08-08T23:54:50Z"));
    await server.answer({ now: "2024-08-08T23:54:50.000Z" });
    await server.answer({ state: "paused" });
    expect(server.sent.map(({ action }) => action)).toEqual(["seek", "seek", "pause"]);
    expect(remote.isBusy).toBe(false);
  });

  test("does not believe a look that was begun before an action", async () => {
    const { remote, server } = await remoteOf();
    void remote.look();
    remote.act({ action: "pause" });
    const [look, pause] = server.asked.splice(0);
    pause!.answer({ ...STATE, state: "paused" });
    await settled();
    look!.answer(STATE);
    await settled();
    expect(remote.state?.state).toBe("paused");
  });

  test("is there for scenarios, whoever may control them, and knows them after an action", async () => {
    const scenario = { name: "flash-crash", phase: "continuous" };
    const { remote } = await remoteOf({ kind: "simulator", scenario, controllable: false });
    expect([remote.isShown, remote.isScenario]).toEqual([true, true]);
    const controlled = await remoteOf({ kind: "simulator", scenario });
    controlled.remote.act({ action: "pause" });
    await settled();
    expect(controlled.remote.state?.scenario).toEqual(scenario);
    expect((await remoteOf({ kind: "simulator", scenario: null })).remote.isShown).toBe(false);
  });

  test("is there for replays that may be controlled, and for nothing else", async () => {
    expect((await remoteOf()).remote.isShown).toBe(true);
    expect((await remoteOf({ controllable: false })).remote.isShown).toBe(false);
    expect((await remoteOf({ kind: "simulator", end: null })).remote.isShown).toBe(false);
    expect((await remoteOf({ kind: "publisher", state: "stale" })).remote.isShown).toBe(false);
  });
});

test("what will be is guessed as the server does it", () => {
  const ended: ReplayState = { ...STATE, state: "ended", now: STATE.end! };
  expect(expected(ended, { action: "play" })).toMatchObject({
    state: "playing",
    now: STATE.start,
  });
  expect(expected(STATE, { action: "step", by: "1s" }).state).toBe("paused");
  const paused: ReplayState = { ...STATE, state: "paused" };
  expect(expected(paused, { action: "seek", to: STATE.start! })).toMatchObject({
    state: "paused",
    now: STATE.start,
  });
  expect(expected(paused, { action: "speed", speed: "max" })).toMatchObject({ speed: "max" });
});

test("a server without replays is asked, and is no error; what one refuses is told in its words", async () => {
  const answering = (status: number, body: unknown) => {
    const asked: [string, RequestInit | undefined][] = [];
    const ask = (url: string, init?: RequestInit) => {
      asked.push([url, init]);
      return Promise.resolve(new Response(JSON.stringify(body), { status }));
    };
    return { asked, api: replayApi("v1/replay", "v1/feed", ask as typeof fetch) };
  };
  expect(await answering(404, {}).api.look()).toBeNull();
  const { api, asked } = answering(200, STATE);
  expect(await api.send({ action: "speed", speed: "max" })).toEqual(STATE);
  expect(asked[0]![0]).toBe("v1/replay");
  expect(asked[0]![1]).toMatchObject({ method: "POST", body: '{"action":"speed","speed":"max"}' });
  const scenario = { name: "flash-crash", phase: "continuous" };
  const simulated = answering(200, { ...STATE, kind: "simulator", scenario });
  expect((await simulated.api.look())?.scenario).toEqual(scenario);
  expect(simulated.asked.map(([url]) => url)).toEqual(["v1/replay", "v1/feed"]);
  const refused = answering(403, { detail: "not here" }).api.send({ action: "play" });
  await expect(refused).rejects.toThrow("not here");
  await expect(answering(500, "?").api.look()).rejects.toThrow("the server answers 500");
});

test("states, times and speeds are said as people say them", () => {
  expect(stateText(STATE)).toBe("Replay ×2");
  expect(stateText({ ...STATE, speed: "max" })).toBe("Replay max");
  expect(stateText({ ...STATE, state: "paused", speed: 0.5 })).toBe("Replay ×0.5, paused");
  expect(stateText({ ...STATE, state: "ended" })).toBe("Replay ×2, ended");
  expect(stateText({ ...STATE, kind: "simulator" })).toBe("Simulated ×2");
  expect(stateText({ ...STATE, kind: "simulator", speed: 1 })).toBe("Simulated");
  expect(timeText(at("2024-08-08T23:54:20.155Z"), false)).toBe("23:54:20.1");
  expect(timeText(at("2024-08-08T23:54:20.155Z"), true)).toBe("2024-08-08 23:54:20.1");
  expect(speeds(4)).toEqual(speeds("max"));
  expect(speeds(3)).toContain(3);
  expect(speeds(3).indexOf(3)).toBe(speeds(3).indexOf(2) + 1);
  expect(speeds(5000).at(-1)).toBe("max");
  expect([20_000, 60_000, 3_600_000, 86_400_000, 1e12].map(arrowStep)).toEqual([
    100, 500, 30_000, 600_000, 3_600_000,
  ]);
});
