/* AG Grid (community) with our tools above it, a row's detail beside it, and cards where there is no room for columns.
   What a cell, a name or a detail says is set as text, never as HTML. */
import * as AgGrid from "nicegui-aggrid";

AgGrid.ModuleRegistry.registerModules([AgGrid.AllCommunityModule]);
const THEME = AgGrid.themeQuartz.withParams({
  backgroundColor: "var(--raised)", foregroundColor: "var(--ink)", textColor: "var(--ink)", borderColor: "var(--line)", accentColor: "var(--accent)",
  headerBackgroundColor: "var(--soft)", headerTextColor: "var(--ink)", subtleTextColor: "var(--dim)", menuBackgroundColor: "var(--raised)",
  fontFamily: "inherit", fontSize: 14, headerFontSize: 14, headerFontWeight: 600, browserColorScheme: "inherit",
});
const NARROW = "(max-width: 700px)";

export default {
  template: `
    <div class="pd-table-view" @keydown="key">
      <div class="pd-row pd-table-tools" role="group" :aria-label="said.filters">
        <label class="pd-table-search"><span class="pd-hidden">{{ said.search }}</span>
          <input type="search" data-search :placeholder="said.search" :value="search" @input="find($event.target.value)"></label>
        <button v-for="flag in flags" v-show="counts[flag.name]" :key="flag.name" type="button" :class="['pd-button', 'pd-flag', flag.tone]"
          :data-flag="flag.name" :aria-pressed="String(flag.name === only)" @click="toggle(flag.name)">
          <span v-if="flag.icon" aria-hidden="true">{{ flag.icon }}</span><span>{{ flag.words }}</span><b>{{ number(counts[flag.name] || 0) }}</b></button>
        <label v-if="labels.length && values.length > 1" class="pd-row"><span class="pd-note">{{ labels[1] }}</span>
          <select class="pd-select" :value="label" @change="choose($event.target.value)"><option value="">{{ said.all_labels }}</option>
            <option v-for="one in values" :key="one[0]" :value="one[0]">{{ one[0] }} ({{ number(one[1]) }})</option></select></label>
        <button v-if="doubt" type="button" class="pd-button" data-key="d" :aria-pressed="String(doubtful)" @click="sortByDoubt">
          <span>{{ said.doubt }}</span><kbd aria-hidden="true">d</kbd></button>
        <span class="pd-note pd-table-count" role="status">{{ count() }}</span>
      </div>
      <p v-if="fault" class="pd-note bad" role="alert">{{ said.fault }} <button type="button" class="pd-button" @click="fill">{{ said.retry }}</button></p>
      <div :class="['pd-table-body', {open: shown}]">
        <div ref="grid" class="pd-ag"></div>
        <section v-if="shown" ref="panel" class="pd-detail" role="dialog" aria-modal="false" :aria-label="shown.title" tabindex="-1" @keydown="panelKey">
          <div class="pd-row pd-detail-head">
            <h2 dir="auto">{{ shown.title }}</h2><span class="pd-grow"></span>
            <button type="button" class="pd-switch" :aria-label="said.earlier" @click="step(-1)">↑</button>
            <button type="button" class="pd-switch" :aria-label="said.later" @click="step(1)">↓</button>
            <button type="button" class="pd-switch" :aria-label="said.close" @click="close">✕</button>
          </div>
          <p v-if="!shown.fields" class="pd-note" role="status">{{ said.loading }}</p>
          <dl class="pd-fields">
            <template v-for="(field, i) in shown.fields || []" :key="i">
              <dt dir="auto">{{ field.name }}</dt>
              <dd :class="field.tone"><img v-if="field.image" :src="field.image" :alt="field.text"><span v-else dir="auto">{{ field.text }}</span>
                <button v-if="field.text && !field.image" type="button" class="pd-copy" :data-copy="field.text" :data-done="said.copied" :aria-label="said.copy + ': ' + field.name"><svg viewBox="0 0 24 24" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.7" aria-hidden="true"><path d="M8 8h12v12H8z M4 16V4h12"/></svg></button></dd>
            </template>
          </dl>
          <div class="pd-row"><a v-for="one in actions" :key="one.words" class="pd-button primary" :href="address(one, shown.n)">
            <span>{{ one.words }}</span><kbd v-if="one.key" aria-hidden="true">{{ one.key }}</kbd></a></div>
        </section>
        <span ref="after" class="pd-hidden" tabindex="-1"></span>
      </div>
    </div>`,
  props: ["name", "columns", "source", "given", "detail", "there", "version", "most", "flags", "labels", "doubt", "actions", "said", "locale", "language"],
  data: () => ({ counts: {}, values: [], only: "", label: "", search: "", doubtful: false, fault: false, shown: null, displayed: 0, have: 0 }),
  mounted() {
    this.formats = new Map();
    this.clear();
    this.narrow = matchMedia(NARROW);
    this.rebuilt = () => { this.make(); };
    this.narrow.addEventListener("change", this.rebuilt);
    this.make();
    this.fill();
  },
  unmounted() {
    this.gone = true;
    this.narrow.removeEventListener("change", this.rebuilt);
    this.api?.destroy();
  },
  watch: {
    there() { this.fill(); },
    version() { this.renew(); },
  },
  methods: {
    /* -- rows -- */
    clear() { this.rows = []; this.have = 0; this.counts = {}; this.values = []; this.seen = new Map(); this.tally = {}; this.made = this.version; },
    async fetched(from) {
      if (this.given.length) return this.given.slice(from - 1);
      const answer = await fetch(`${this.source}?from=${from}&version=${this.version}`, { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.status);
      return (await answer.json()).rows;
    },
    async fill() {
      if (this.filling) return;
      this.filling = true;
      this.fault = false;
      try {
        while (!this.gone && this.have < Math.min(this.there, this.most)) {
          const version = this.version, rows = await this.fetched(this.have + 1);
          if (this.gone || version !== this.version || !rows.length) break;
          this.add(rows);
        }
      } catch { this.fault = !this.gone; } finally { this.filling = false; }
    },
    /* All rows anew: those that are there stay until the others have come. */
    async renew() {
      const version = this.version, rows = [];
      try {
        while (rows.length < Math.min(this.there, this.most)) {
          const part = await this.fetched(rows.length + 1);
          if (this.gone || version !== this.version) return;
          if (!part.length) break;
          rows.push(...part);
        }
      } catch { this.fault = !this.gone; return; }
      this.clear();
      if (!this.narrow.matches) this.api.setGridOption("columnDefs", this.columns.map(this.column));
      this.api.setGridOption("rowData", []);
      this.add(rows);
      if (this.doubtful) this.doubtFirst();
      this.fill();
    },
    add(rows) {
      for (const row of rows) {
        this.rows.push(row);
        for (const flag of row.f || []) this.tally[flag] = (this.tally[flag] || 0) + 1;
        const label = this.labels.length ? row[this.labels[0]] : null;
        if (label && (this.seen.has(label) || this.seen.size < 200)) this.seen.set(label, (this.seen.get(label) || 0) + 1);
      }
      this.have = this.rows.length;
      this.counts = { ...this.tally };
      this.values = [...this.seen].sort((a, b) => b[1] - a[1]);
      this.api.applyTransaction({ add: rows });
      this.changed();
    },
    /* -- the grid -- */
    make() {
      this.api?.destroy();
      const cards = this.narrow.matches;
      const options = {
        theme: THEME,
        columnDefs: cards ? [this.card()] : this.columns.map(this.column),
        rowData: [...this.rows],
        getRowId: (p) => String(p.data.n),
        localeText: this.locale,
        headerHeight: cards ? 0 : undefined,
        rowHeight: cards ? 88 : 40,
        suppressFieldDotNotation: true,
        enableCellTextSelection: true,
        ensureDomOrder: true,
        suppressMovableColumns: false,
        animateRows: false,
        isExternalFilterPresent: () => !!(this.only || this.label),
        doesExternalFilterPass: (node) => this.passes(node.data),
        rowClassRules: { "pd-rejected": (p) => (p.data?.f || []).includes("rejected") },
        defaultColDef: { sortable: true, resizable: true, minWidth: 88, wrapHeaderText: true, autoHeaderHeight: !cards, suppressKeyboardEvent: (p) => p.event.key === "Tab" && this.leave(p.event) },
        onFilterChanged: () => this.changed(),
        onSortChanged: () => { this.doubtful = !!this.doubt && this.api.getColumnState().some((one) => one.colId === this.doubt && one.sort === "asc"); },
        onCellKeyDown: (p) => this.cellKey(p),
        onRowDoubleClicked: (p) => this.open(p.data.n),
        onRowClicked: (p) => { if ((cards || this.shown) && !String(getSelection())) this.open(p.data.n, true); },
        cacheQuickFilter: true,
        quickFilterText: this.search,
      };
      this.api = AgGrid.createGrid(this.$refs.grid, options);
      this.$refs.grid.querySelector("[role=grid],[role=treegrid]")?.setAttribute("aria-label", this.name);
      if (this.doubtful) this.doubtFirst();
      this.changed();
    },
    column(one) {
      const isNumber = one.kind === "number";
      return {
        field: one.field, headerName: one.name, colId: one.field, width: one.width ?? undefined, flex: one.width ? undefined : one.card === "title" ? 3 : one.card === "answer" ? 2 : 1, minWidth: one.width ? Math.min(88, one.width) : one.card === "title" ? 240 : 144,
        cellClass: isNumber ? "pd-number" : "pd-cell", headerClass: isNumber ? "ag-right-aligned-header" : undefined,
        filter: isNumber ? "agNumberColumnFilter" : "agTextColumnFilter", filterParams: { debounceMs: 120, maxNumConditions: 2 },
        cellDataType: false,
        comparator: isNumber ? (a, b, x, y, down) => order(a, b, down) : one.kind === "text" ? (a, b) => compare(a, b) : undefined,
        valueGetter: one.kind === "state" ? (p) => this.state(p.data) : undefined,
        valueFormatter: isNumber ? (p) => this.figure(p.value, one.digits) : undefined,
        getQuickFilterText: isNumber ? () => "" : undefined,
      };
    },
    card() {
      const part = (name) => this.columns.filter((one) => one.card === name);
      const texts = (list, row) => list.map((one) => one.kind === "state" ? this.state(row) : one.kind === "number" ? this.figure(row[one.field], one.digits) : row[one.field]).filter((text) => text !== null && text !== undefined && text !== "");
      return {
        colId: this.doubt || "n", field: this.doubt || "n", flex: 1, comparator: (a, b, x, y, down) => order(a, b, down), cellClass: "pd-card-cell",
        getQuickFilterText: (p) => this.columns.map((one) => p.data[one.field]).join("\n"),
        cellRenderer: (p) => {
          const card = document.createElement("div");
          card.className = "pd-row-card";
          for (const name of ["title", "answer", "aside"]) {
            const line = document.createElement("div");
            line.className = `pd-card-${name}`;
            line.dir = "auto";
            line.textContent = (name === "title" ? [`${p.data.n}`, ...texts(part(name), p.data)] : texts(part(name), p.data)).join(" · ");
            card.append(line);
          }
          return card;
        },
      };
    },
    state(row) {
      return this.flags.filter((flag) => (row?.f || []).includes(flag.name) && flag.tone).map((flag) => `${flag.icon} ${flag.words}`.trim()).join(", ");
    },
    figure(value, digits) {
      if (value === null || value === undefined) return "";
      if (typeof value !== "number") return String(value);
      const how = digits === null ? { ...window.polydetr.figures(value, 6), useGrouping: false } : { minimumFractionDigits: digits, maximumFractionDigits: digits };
      const key = Object.values(how).join();
      if (!this.formats.has(key)) this.formats.set(key, new Intl.NumberFormat(this.language, how));
      return this.formats.get(key).format(value);
    },
    number(value) { return value.toLocaleString(this.language); },
    count() {
      const said = this.displayed === this.have ? this.said.none : this.said.shown;
      const more = this.there > this.most ? ` ${this.said.most.replace("{most}", this.number(this.most))}` : "";
      return said.replace("{shown}", this.number(this.displayed)).replace("{count}", this.number(this.have)) + more;
    },
    passes(row) {
      return (!this.only || (row.f || []).includes(this.only)) && (!this.label || row[this.labels[0]] === this.label);
    },
    changed() { this.displayed = this.api.getDisplayedRowCount(); },
    toggle(name) { this.only = this.only === name ? "" : name; this.api.onFilterChanged(); },
    choose(label) { this.label = label; this.api.onFilterChanged(); },
    find(text) { this.search = text; this.api.setGridOption("quickFilterText", text); },
    sortByDoubt() {
      if (this.doubtful) { this.doubtful = false; this.api.applyColumnState({ defaultState: { sort: null } }); }
      else { this.doubtful = true; this.doubtFirst(); }
    },
    doubtFirst() { this.api.applyColumnState({ state: [{ colId: this.doubt, sort: "asc" }], defaultState: { sort: null } }); },
    /* The rows that are shown, in their order, as ranges: "1-20,25". */
    ranges() {
      const parts = [];
      this.api.forEachNodeAfterFilterAndSort((node) => {
        const n = node.data.n, last = parts.at(-1);
        if (last && last[1] === n - 1) last[1] = n; else parts.push([n, n]);
      });
      return parts.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(",");
    },
    /* A file made of the rows that are shown: they are sent as ranges, and what comes back is kept by the browser. */
    async save_shown(address, name) {
      const answer = await fetch(address, { method: "POST", body: this.ranges(), headers: { "content-type": "text/plain" } });
      if (!answer.ok) { window.polydetr.notice((await answer.json().catch(() => null))?.error?.message ?? this.said.fault, "bad"); return; }
      const place = URL.createObjectURL(await answer.blob());
      const link = Object.assign(document.createElement("a"), { href: place, download: name });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(place), 60000);
    },
    /* -- one row -- */
    async open(n, stay) {
      if (!this.detail) return;
      this.at = n;
      if (this.shown?.n !== n) this.shown = { n, title: `${n}`, fields: null };
      await this.$nextTick();
      if (!stay) this.$refs.panel?.focus();
      try {
        const answer = await fetch(this.detail.replace("{n}", n));
        if (!answer.ok) throw new Error(answer.status);
        const found = await answer.json();
        if (this.shown && this.at === n) this.shown = { n, ...found };
      } catch { if (this.shown) this.shown = { ...this.shown, fields: [{ name: "", text: this.said.fault }] }; }
    },
    close() {
      const n = this.at;
      this.shown = null;
      this.$nextTick(() => this.focus(n));
    },
    focus(n) {
      const node = this.api.getRowNode(String(n));
      if (!node || node.rowIndex === null) return;
      this.api.ensureIndexVisible(node.rowIndex);
      this.api.clearFocusedCell(); // or a cell that had the focus before is not given it again
      const first = this.api.getAllDisplayedColumns()[0];
      this.api.ensureColumnVisible(first);
      this.api.setFocusedCell(node.rowIndex, first);
    },
    step(by) {
      const node = this.api.getRowNode(String(this.at));
      const next = this.api.getDisplayedRowAtIndex((node?.rowIndex ?? -1) + by);
      if (next) { this.api.ensureIndexVisible(next.rowIndex); this.open(next.data.n, true); }
    },
    address(one, n) { return one.address.replace("{n}", n); },
    act(key, n) {
      const found = this.actions.find((one) => one.key === key);
      if (found && n) location.assign(this.address(found, n));
      return !!found;
    },
    /* Tab leaves the table: its cells are reached by the arrows. */
    leave(event) {
      event.preventDefault();
      if (event.shiftKey) [...this.$el.querySelectorAll(".pd-table-tools :is(button, input, select)")].filter((one) => one.offsetParent).at(-1).focus();
      else (this.$refs.panel ?? this.$refs.after).focus();
      return true;
    },
    cellKey({ event, data, rowIndex, column, value }) {
      if (event.altKey) return;
      if ((event.ctrlKey || event.metaKey) && event.key === "c" && !String(getSelection())) {
        navigator.clipboard?.writeText(String(value ?? "")).then(() => window.polydetr.notice(this.said.copied, "good"));
      } else if (event.ctrlKey || event.metaKey) return;
      else if (event.key === "Enter") { event.preventDefault(); this.open(data.n); }
      else if (event.key === "j" || event.key === "k") {
        const next = rowIndex + (event.key === "j" ? 1 : -1);
        if (next >= 0 && next < this.api.getDisplayedRowCount()) { this.api.ensureIndexVisible(next); this.api.setFocusedCell(next, column); }
      } else if (event.key === "/") { event.preventDefault(); this.$el.querySelector("[data-search]").focus(); }
      else if (event.key === "d" && this.doubt) this.sortByDoubt();
      else this.act(event.key, data.n);
    },
    panelKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "j" || event.key === "k") this.step(event.key === "j" ? 1 : -1);
      else if (!this.act(event.key, this.shown?.n)) return;
      event.preventDefault();
      event.stopPropagation();
    },
    key(event) {
      if (event.key === "Escape" && this.shown) { event.stopPropagation(); this.close(); }
      else if (event.key === "ArrowDown" && event.target.matches("[data-search]")) {
        event.preventDefault();
        const first = this.api.getDisplayedRowAtIndex(0);
        if (first) this.focus(first.data.n);
      }
    },
  },
};

/* Numbers, with what has none at the end whichever way they are sorted. */
function order(a, b, down) {
  const none = (v) => v === null || v === undefined || v === "";
  if (none(a) || none(b)) return none(a) && none(b) ? 0 : none(a) === !down ? 1 : -1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
}

function compare(a, b) {
  const x = a ?? "", y = b ?? "";
  return x < y ? -1 : x > y ? 1 : 0;
}
