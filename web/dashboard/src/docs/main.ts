import "../styles/theme.css";
import "./docs.css";
import { mount } from "svelte";
import { Settings } from "../shell/settings.svelte.js";
import { openStorage } from "../shell/storage.js";
import Docs from "./Docs.svelte";

const target = document.getElementById("app");
if (!target) throw new Error("the page has no element #app");
// Next to the page, whatever path a proxy serves it under.
const base = new URL("./", location.href).href;
mount(Docs, { target, props: { base, settings: new Settings(openStorage()) } });
