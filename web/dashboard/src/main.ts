import "./styles/theme.css";
import "./styles/page.css";
import "./styles/top.css";
import "./styles/watchlist.css";
import "./styles/instrument.css";
import "./styles/chart.css";
import "./styles/tape.css";
import "./styles/heatmap.css";
import "./styles/movers.css";
import "./styles/dialogs.css";
import "./styles/narrow.css";
import { mount } from "svelte";
import { TickcastClient } from "tickcast-client";
import { FrameLoop } from "./frames.js";
import { Market } from "./market.js";
import { Selection } from "./selection.js";
import App from "./shell/App.svelte";
import { Desk } from "./shell/desk.svelte.js";
import { Settings } from "./shell/settings.svelte.js";

/** Updates a second that the page asks for: more than the eye follows, far less than the server has. */
const MAX_HZ = 10;

const url = new URL("/v1/ws", location.href);
url.protocol = url.protocol.replace("http", "ws");
const client = new TickcastClient(url.href);
const frames = new FrameLoop();
const market = new Market(client, () => frames.request());
const selection = new Selection(client, () => frames.request());

client.on("state", () => frames.request());
client.subscribe(["quote:*", "day:*", "status:*", "status"], { maxHz: MAX_HZ });
client.connect();
// The network is back: no reason to wait for the next attempt.
addEventListener("online", () => client.reconnectNow());

const settings = new Settings(localStorage);
settings.apply(document.documentElement);
const desk = new Desk(client, frames, market, selection, settings, localStorage);
const target = document.getElementById("app");
if (!target) throw new Error("the page has no element #app");
mount(App, { target, props: { desk } });
