import "../styles/theme.css";
import "./ops.css";
import { mount } from "svelte";
import { TickcastClient } from "@tickcast/client";
import { Settings } from "../shell/settings.svelte.js";
import { openStorage } from "../shell/storage.js";
import Ops from "./Ops.svelte";

const url = new URL("v1/ws", location.href);
url.protocol = url.protocol.replace("http", "ws");
const client = new TickcastClient(url.href);

const target = document.getElementById("app");
if (!target) throw new Error("the page has no element #app");
mount(Ops, { target, props: { client, settings: new Settings(openStorage()) } });

client.subscribe(["stats"]);
client.connect();
