import { timeframe as timeframeOf, type Timeframe } from "../chart/timeframes.js";
import type { Link } from "../data/link.js";
import { formatWhole } from "../format.js";
import type { FrameLoop } from "../frames.js";
import type { Market, Row } from "../market.js";
import type { Selection } from "../selection.js";
import type { Arrangement, Sorting } from "../watchlist/arrange.js";
import { Lists, toggled, type SymbolList } from "../watchlist/lists.js";
import { isConnected } from "./badge.js";
import { Display } from "./display.js";
import { Gaps } from "./gaps.js";
import { addressOf, HOME, parseRoute, type Route, type View } from "./route.js";
import type { Settings } from "./settings.svelte.js";
import { silence } from "./silence.js";
import type { PageStorage } from "./storage.js";

export type Dialog = "help" | "settings" | "columns" | "lists";

/** Which part of the page a narrow screen shows. */
export type Panel = "watchlist" | "heatmap" | "chart" | "trades" | "movers";

/** What the page shows: the state shared by all panels, so that a symbol opens everywhere at once. */
export class Desk {
  readonly gaps: Gaps;
  readonly display: Display;

  /** The open symbol; empty before there is one. */
  symbol = $state(HOME.symbol);
  selected = $state.raw<Row | null>(null);
  view = $state<View>(HOME.view);
  panel = $state<Panel>("watchlist");
  timeframe = $state<Timeframe>(HOME.timeframe);
  list = $state.raw<SymbolList | null>(null);
  lists = $state.raw(new Lists());
  dialog = $state<Dialog | null>(null);
  /** Whether the details of the connection are open. */
  details = $state(false);
  /** Whether the desk panel is open. */
  talking = $state(false);
  paused = $state(false);
  /** The last change of a list. */
  said = $state("");
  connected = $state(false);
  private sector = $state("");
  private sorting = $state.raw<Sorting | null>(null);

  readonly arrangement = $derived<Arrangement>({
    sector: this.sector,
    list: this.list?.symbols ?? null,
    sorting: this.sorting,
  });

  constructor(
    readonly link: Link,
    readonly frames: FrameLoop,
    readonly market: Market,
    readonly selection: Selection,
    readonly settings: Settings,
    private readonly storage: PageStorage,
  ) {
    this.gaps = new Gaps(link);
    this.display = new Display(market);
    this.lists = Lists.read(storage);
    frames.add(() => this.follow());
  }

  /** Shows the route in the address. */
  route(route: Route): void {
    if (route.list) route = { ...route, list: this.adopt(route.list) };
    ({ view: this.view, timeframe: this.timeframe, sector: this.sector, list: this.list } = route);
    this.sorting = route.sorting;
    this.panel = route.view;
    if (route.symbol !== "") this.choose(route.symbol);
    else if (this.symbol !== "") this.choose(this.symbol);
  }

  /** Opens `symbol` in every panel. */
  open(symbol: string): void {
    if (this.panel !== "trades") this.panel = "chart";
    if (symbol === this.symbol) return;
    this.choose(symbol);
    history.pushState(null, "", this.address());
  }

  show(view: View): void {
    this.view = this.panel = view;
    this.remember();
  }

  chooseTimeframe(timeframe: Timeframe): void {
    this.timeframe = timeframe;
    this.selection.choose(this.symbol, timeframeOf(timeframe).interval);
    this.remember();
  }

  sort(sorting: Sorting | null): void {
    this.sorting = sorting;
    this.remember();
  }

  filter(sector: string): void {
    this.sector = sector;
    this.remember();
  }

  /** @param name of a list; empty for the entire universe */
  openList(name: string): void {
    this.list = this.lists.find(name) ?? null;
    this.sorting = null;
    this.remember();
  }

  /** Keeps `list`, and shows it. */
  changeList(list: SymbolList): void {
    this.keep(this.lists.with(list));
    this.list = list;
    this.remember();
  }

  removeList(name: string): void {
    this.keep(this.lists.without(name));
    if (this.list?.name === name) this.list = null;
    this.remember();
  }

  /** The list that symbols are added to: the open one, or the first, which may not exist yet. */
  get target(): SymbolList {
    return this.list ?? this.lists.find(FIRST_LIST) ?? { name: FIRST_LIST, symbols: [] };
  }

  isListed(symbol: string): boolean {
    return this.target.symbols.includes(symbol);
  }

  /** Adds `symbol` to the target list, or removes it, and reports it. */
  toggleListed(symbol: string): void {
    if (symbol === "") return;
    const { target } = this;
    const changed = toggled(target, symbol);
    if (this.list) this.changeList(changed);
    else this.keep(this.lists.with(changed));
    const now = changed.symbols.includes(symbol);
    this.said =
      now === target.symbols.includes(symbol)
        ? `${target.name} is full: it has ${target.symbols.length} symbols.`
        : `${symbol} is ${now ? "on" : "off"} ${target.name}.`;
  }

  togglePause(): void {
    if (this.display.paused) this.display.resume();
    else this.display.pause();
    this.paused = this.display.paused;
    this.frames.request();
  }

  behindText(): string {
    const { behind } = this.display;
    return `${formatWhole(behind)} update${behind === 1 ? "" : "s"} behind`;
  }

  /** For how long nothing came for `row`, though it should have. */
  silence(row: Row, now: number): number | null {
    return silence(row, now, this.link.state, this.link.feed);
  }

  private follow(): void {
    this.connected = isConnected(this.link.state);
    const first = this.market.rows[0];
    // No symbol is requested: show the first one, without a step in the history.
    if (this.symbol === "" && first) {
      this.choose(first.instrument.symbol);
      this.remember();
    }
    this.selected = this.market.find(this.symbol) ?? null;
  }

  private choose(symbol: string): void {
    this.symbol = symbol;
    this.selected = this.market.find(symbol) ?? null;
    this.selection.choose(symbol, timeframeOf(this.timeframe).interval);
    this.frames.request();
  }

  /** Puts what is shown into the address, without a step in the history. */
  private remember(): void {
    history.replaceState(null, "", this.address());
    this.frames.request();
  }

  private address(): string {
    const { symbol, view, timeframe, sector, list, sorting } = this;
    return addressOf({ symbol, view, timeframe, sector, list, sorting }, location.href);
  }

  private keep(lists: Lists): void {
    this.lists = lists;
    lists.write(this.storage);
  }

  /** A list from an address is kept, next to one of the same name with other symbols. */
  private adopt(list: SymbolList): SymbolList {
    const same = ({ symbols }: SymbolList) => symbols.join() === list.symbols.join();
    for (let n = 1; ; n++) {
      const name = n === 1 ? list.name : `${list.name.slice(0, 34)} (${n})`;
      const known = this.lists.find(name);
      if (known && same(known)) return known;
      if (known) continue;
      const adopted = { ...list, name };
      this.keep(this.lists.with(adopted));
      return adopted;
    }
  }
}

/** Where a symbol goes when no list is open. */
const FIRST_LIST = "Favourites";

/** Follows the address: at the start, and when the user goes back. */
export function followAddress(desk: Desk): () => void {
  const follow = () => desk.route(parseRoute(location));
  follow();
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);
  return () => {
    removeEventListener("popstate", follow);
    removeEventListener("hashchange", follow);
  };
}
