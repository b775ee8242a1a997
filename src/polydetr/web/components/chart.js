/* A chart with its words, its table, and two files of it: a picture, and the numbers. Colors are those of the page, so
   that a change of light redraws it. Tokens in the options: "$ink" a variable of the theme, "%share" a way to write
   numbers. What is drawn is text on a canvas: nothing of it is read as HTML. */
import { echarts } from "nicegui-echart";

const WRITTEN = {
  "%number": (v) => (v == null || v === "" ? "" : Number(v).toLocaleString(document.documentElement.lang, window.polydetr.figures(v, 4))),
  "%share": (v) => (v == null || v === "" ? "" : Number(v).toLocaleString(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 })),
  "%cell": (p) => (p.value[2] ? p.value[2].toLocaleString() : ""),
  "%last": (p) => p.seriesName,
};

export default {
  template: `
    <figure class="pd-chart" :aria-label="label">
      <figcaption class="pd-chart-head"><h3 dir="auto">{{ label }}</h3>
        <button type="button" class="pd-button quiet small" v-show="zoomed" @click="whole">{{ words.whole }}</button>
        <button type="button" class="pd-button quiet small" v-if="rows.length" @click="save_png" :aria-label="words.png_of">PNG</button>
        <button type="button" class="pd-button quiet small" v-if="rows.length" @click="save_csv" :aria-label="words.csv_of">CSV</button>
      </figcaption>
      <p class="pd-note" v-if="note">{{ note }}</p>
      <div ref="canvas" class="pd-chart-drawing" :style="{ height: height + 'px' }" role="img" :aria-label="label + '. ' + summary"></div>
      <details class="pd-numbers"><summary>{{ words.table }}</summary>
        <div class="pd-scroll" tabindex="0" role="region" :aria-label="words.table_of"><table class="pd-table">
          <thead><tr><th v-for="one in head" scope="col" dir="auto">{{ one }}</th></tr></thead>
          <tbody><tr v-for="row in rows.slice(0, 200)"><td v-for="one in row" dir="auto" :class="{ 'pd-number': typeof one === 'number' }">{{ written(one) }}</td></tr></tbody>
        </table></div>
        <p class="pd-note" v-if="rows.length > 200">{{ words.more }}</p>
      </details>
    </figure>`,
  props: { label: String, note: String, summary: String, options: Object, head: Array, rows: Array, height: Number, words: Object, zoom: Boolean, file: String },
  data: () => ({ zoomed: false }),
  mounted() {
    this.chart = echarts.init(this.$refs.canvas, null, { renderer: "canvas" });
    this.chart.on("datazoom", () => { this.zoomed = (this.chart.getOption().dataZoom ?? []).some((z) => z.start > 0.01 || z.end < 99.99); });
    this.resized = new ResizeObserver(() => this.chart?.resize());
    this.resized.observe(this.$refs.canvas);
    this.relit = new MutationObserver(() => this.draw());
    this.relit.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.draw();
    this.$watch("options", () => this.draw());
  },
  beforeUnmount() {
    this.relit.disconnect();
    this.resized.disconnect();
    this.chart.dispose();
    this.chart = null;
  },
  methods: {
    draw() {
      if (!this.chart) return;
      const style = getComputedStyle(document.body);
      const light = (name) => style.getPropertyValue(`--${name}`).trim();
      const tokens = (value, key) => {
        if (Array.isArray(value)) return value.map((one) => (key === "data" && (typeof one !== "object" || Array.isArray(one)) ? one : tokens(one)));
        if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, tokens(v, k)]));
        if (typeof value === "string" && /^\$[a-z-]+$/.test(value) && key !== "name") return light(value.slice(1));
        if (typeof value === "string" && key !== "name" && WRITTEN[value]) return WRITTEN[value];
        return value;
      };
      const axis = { axisLine: { lineStyle: { color: light("line") } }, axisTick: { show: false }, axisLabel: { color: light("dim"), fontSize: 14 }, nameTextStyle: { color: light("dim"), fontSize: 14 }, splitLine: { lineStyle: { color: light("line"), opacity: 0.6 } } };
      const options = tokens(this.options);
      const merged = (one) => ({ ...one, axisLine: { ...axis.axisLine, ...one.axisLine }, axisTick: axis.axisTick, axisLabel: { ...axis.axisLabel, ...one.axisLabel }, nameTextStyle: { ...axis.nameTextStyle, ...one.nameTextStyle }, splitLine: { ...axis.splitLine, ...one.splitLine } });
      for (const name of ["xAxis", "yAxis"]) if (options[name]) options[name] = [].concat(options[name]).map(merged);
      this.chart.setOption({
        textStyle: { fontFamily: style.fontFamily, fontSize: 14, color: light("ink") },
        animationDuration: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 200,
        ...(this.zoom ? { toolbox: { itemSize: 0, feature: { dataZoom: { yAxisIndex: "none", brushStyle: { color: light("accent"), opacity: 0.2 } } } } } : {}),
        ...options,
        tooltip: { renderMode: "richText", confine: true, backgroundColor: light("raised"), borderColor: light("line"), textStyle: { color: light("ink"), fontSize: 14 }, ...options.tooltip },
      }, { replaceMerge: ["series"] });
      if (this.zoom) this.chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
    },
    written(one) { return typeof one === "number" ? WRITTEN["%number"](one) : one ?? ""; },
    whole() { this.chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 }); this.zoomed = false; },
    save_png() {
      const back = getComputedStyle(document.body).getPropertyValue("--raised").trim();
      this.save(this.chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: back }), "png");
    },
    save_csv() {
      const risky = /^\s*[=+\-@\t\r\n＝＋－＠]/; /* a spreadsheet would take it for a formula */
      const cell = (v) => {
        let text = v == null ? "" : String(v);
        if (typeof v !== "number" && risky.test(text)) text = `'${text}`;
        return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      };
      const lines = [this.head, ...this.rows].map((row) => row.map(cell).join(",")).join("\r\n");
      const url = URL.createObjectURL(new Blob(["\ufeff" + lines + "\r\n"], { type: "text/csv" }));
      this.save(url, "csv");
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    },
    save(href, ending) {
      const link = Object.assign(document.createElement("a"), { href, download: `${this.file}.${ending}` });
      link.click();
    },
  },
};
