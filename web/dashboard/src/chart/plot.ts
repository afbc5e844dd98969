import {
  CandlestickSeries,
  createChart,
  CrosshairMode,
  HistogramSeries,
  type IChartApi,
  type ISeriesApi,
  type PriceFormatCustom,
  type UTCTimestamp,
} from "lightweight-charts";
import type { ChartBar } from "../selection.js";

/** In pixels, and in bars. */
const SPACING = { barSpacing: 7, rightOffset: 4 };

export interface PlotEvents {
  /** The time of the bar under the crosshair; null for none. */
  hovered(time: number | null): void;
  /** Whether the newest bar is in sight. */
  atNewest(is: boolean): void;
}

/** The drawing of the chart. Loaded after the page is up: it is as large as all else together. */
export class Plot {
  private readonly chart: IChartApi;
  private readonly candles: ISeriesApi<"Candlestick">;
  private readonly volume: ISeriesApi<"Histogram">;
  private readonly priceFormat: PriceFormatCustom;
  private volumeUp = "";
  private volumeDown = "";

  constructor(
    holder: HTMLElement,
    formats: { price: (value: number) => string; amount: (value: number) => string },
    events: PlotEvents,
  ) {
    this.chart = createChart(holder, {
      autoSize: true,
      // The logo would inject a style sheet, which the content security policy refuses: the link below
      // the chart replaces it.
      layout: {
        attributionLogo: false,
        fontFamily: getComputedStyle(document.body).fontFamily,
        fontSize: 11,
      },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: true, ...SPACING },
      rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 } },
    });
    this.priceFormat = { type: "custom", formatter: formats.price, minMove: 0.01 };
    this.candles = this.chart.addSeries(CandlestickSeries, {
      priceFormat: this.priceFormat,
      borderVisible: false,
    });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "custom", formatter: formats.amount, minMove: 1e-8 },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.chart.subscribeCrosshairMove(({ time }) =>
      events.hovered(time === undefined ? null : Number(time)),
    );
    this.chart
      .timeScale()
      .subscribeVisibleLogicalRangeChange(() =>
        events.atNewest(this.chart.timeScale().scrollPosition() > -1),
      );
    this.paintTheme();
  }

  /** Draws these bars in place of the old ones. */
  draw(bars: readonly ChartBar[]): void {
    this.candles.setData(bars.map(candle));
    this.volume.setData(bars.map((bar) => this.volumeBar(bar)));
  }

  /** Draws `bar`, which is the newest, or a newer version of one that is drawn. */
  update(bar: ChartBar, historical: boolean): void {
    this.candles.update(candle(bar), historical);
    this.volume.update(this.volumeBar(bar), historical);
  }

  /** Puts the newest bar at the right end; more history is a scroll away. */
  showNewest(): void {
    this.chart.timeScale().applyOptions(SPACING);
    this.chart.timeScale().scrollToPosition(SPACING.rightOffset, false);
  }

  showSeconds(visible: boolean): void {
    this.chart.timeScale().applyOptions({ secondsVisible: visible });
  }

  /** Prices go in steps of `minMove`: no two labels of the axis are closer together. */
  setMinMove(minMove: number): void {
    this.candles.applyOptions({ priceFormat: { ...this.priceFormat, minMove } });
  }

  /** Takes over the colours of the page. The volume bars carry theirs: {@link draw} them again. */
  paintTheme(): void {
    const line = colour("--line");
    this.chart.applyOptions({
      layout: { background: { color: colour("--panel") }, textColor: colour("--dim") },
      grid: { vertLines: { color: colour("--grid") }, horzLines: { color: colour("--grid") } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
    const [up, down] = [colour("--up"), colour("--down")];
    // The library reads no `color-mix`: two digits more are the opacity.
    [this.volumeUp, this.volumeDown] = [`${up}66`, `${down}66`];
    this.candles.applyOptions({
      upColor: up,
      downColor: down,
      wickUpColor: up,
      wickDownColor: down,
    });
  }

  private volumeBar({ time, open, close, volume }: ChartBar) {
    const color = close >= open ? this.volumeUp : this.volumeDown;
    return { time: time as UTCTimestamp, value: volume, color };
  }

  remove(): void {
    this.chart.remove();
  }
}

function candle({ time, open, high, low, close }: ChartBar) {
  return { time: time as UTCTimestamp, open, high, low, close };
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
