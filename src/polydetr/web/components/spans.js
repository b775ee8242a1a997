/* A text whose spans are made by selecting it. Positions are code points, as Python counts them; the browser counts
   UTF-16. The text stands in the page character by character, and labels are drawn beside it by the style sheet, so that
   what is selected is the text and nothing else. */
const MOVES = { ArrowLeft: ["left", "character"], ArrowRight: ["right", "character"], ArrowUp: ["backward", "line"],
                ArrowDown: ["forward", "line"], Home: ["backward", "lineboundary"], End: ["forward", "lineboundary"] };

export default {
  template: `
    <div class="pd-spans">
      <div class="pd-spans-around">
        <div ref="text" class="pd-text pd-spans-text" tabindex="0" role="textbox" aria-readonly="true" aria-multiline="true" dir="auto"
          :aria-label="title" @keydown="key" @click="click" @focus="focus" @blur="caret = null" @pointerdown="grip"></div>
        <i v-show="caret" class="pd-caret" aria-hidden="true" :style="caret"></i>
      </div>
      <div class="pd-row pd-spans-chosen" v-if="one && !readonly">
        <span class="pd-chip" :style="{ '--c': color(one.label) }" dir="auto">{{ excerpt(one) }}<span class="pd-tag">{{ labels[one.label] }}</span></span>
        <button v-for="b in buttons" :key="b.name" type="button" class="pd-button plain small" :aria-label="words[b.name]" :title="words[b.name]"
          @mousedown.prevent @click="b.act()">{{ b.sign }}</button>
      </div>
      <p class="pd-note" v-else-if="!readonly">{{ words.how }}</p>
      <span class="pd-hidden" aria-live="polite">{{ said }}</span>
    </div>`,
  props: { text: String, items: Array, given: Number, labels: Array, colors: Array, overlap: String, readonly: Boolean, title: String, words: Object },
  data: () => ({ drawn: [], chosen: null, caret: null, said: "" }),
  computed: {
    one() { return this.drawn[this.chosen]; },
    buttons() {
      return [
        { name: "start_back", sign: "⇤", act: () => this.shift("start", -1) }, { name: "start_on", sign: "⇥", act: () => this.shift("start", 1) },
        { name: "end_back", sign: "←", act: () => this.shift("end", -1) }, { name: "end_on", sign: "→", act: () => this.shift("end", 1) },
        { name: "remove", sign: "✕", act: () => this.remove() },
      ];
    },
  },
  watch: {
    given() { this.take(); },
    labels() { this.draw(); },
  },
  mounted() {
    this.count();
    this.take();
    this.onSelect = () => this.place();
    this.onLabel = (event) => this.label(event.detail.index);
    document.addEventListener("selectionchange", this.onSelect);
    this.around = this.$el.closest(".pd-editor") ?? this.$el;
    this.around.addEventListener("pd-label", this.onLabel);
  },
  unmounted() {
    document.removeEventListener("selectionchange", this.onSelect);
    this.around.removeEventListener("pd-label", this.onLabel);
  },
  methods: {
    /* -- positions -- */
    count() {
      const points = [];  // code point → place in UTF-16
      let place = 0;
      for (const point of this.text) { points.push(place); place += point.length; }
      points.push(place);
      this.points = points;
      this.length = points.length - 1;
    },
    /* The code point that begins at, or before, a place in UTF-16; up: at or after. */
    point(place, up) {
      let low = 0, high = this.length;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.points[middle] <= place) low = middle; else high = middle - 1;
      }
      return up && this.points[low] < place ? low + 1 : low;
    },
    placeOf(node, offset) {
      const range = document.createRange();
      range.setStart(this.$refs.text, 0);
      range.setEnd(node, offset);
      return range.toString().length;
    },
    nodeAt(place) {
      const walker = document.createTreeWalker(this.$refs.text, NodeFilter.SHOW_TEXT);
      let last = null;
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (place <= node.length) return [node, place];
        place -= node.length;
        last = node;
      }
      return last ? [last, last.length] : [this.$refs.text, 0];
    },
    selected() {
      const selection = document.getSelection(), box = this.$refs.text;
      if (!selection.rangeCount || !box.contains(selection.anchorNode) || !box.contains(selection.focusNode)) return null;
      const range = selection.getRangeAt(0);
      let start = this.point(this.placeOf(range.startContainer, range.startOffset), false);
      let end = this.point(this.placeOf(range.endContainer, range.endOffset), true);
      const blank = (i) => /^\s$/u.test(this.slice(i, i + 1));
      if (end > start) {
        while (start < end && blank(start)) start++;
        while (end > start && blank(end - 1)) end--;
        if (start === end) return null;
      }
      return [start, end];
    },
    slice(start, end) { return this.text.slice(this.points[start], this.points[end]); },
    excerpt(one) { const said = this.slice(one.start, Math.min(one.end, one.start + 60)); return one.end - one.start > 60 ? `${said}…` : said; },
    color(label) { return this.colors[label % this.colors.length]; },
    /* -- drawing -- */
    take() {
      const before = this.one;
      this.drawn = this.items.map((one) => ({ start: one.start, end: one.end, label: one.label }));
      if (before) this.chosen = this.find(before);
      this.draw();
    },
    find(one) { const at = this.drawn.findIndex((o) => o.start === one.start && o.end === one.end && o.label === one.label); return at < 0 ? null : at; },
    draw() {
      const box = this.$refs.text, focused = document.activeElement === box, kept = focused ? this.selected() : null;
      const parts = document.createDocumentFragment();
      const order = this.drawn.map((one, i) => ({ ...one, i })).sort((a, b) => a.start - b.start || b.end - a.end);
      const cuts = [...new Set([0, this.length, ...order.flatMap((o) => [o.start, o.end])])].sort((a, b) => a - b);
      let active = [], next = 0;
      for (let c = 0; c + 1 < cuts.length; c++) {
        const from = cuts[c], to = cuts[c + 1];
        active = active.filter((o) => o.end > from);
        while (next < order.length && order[next].start <= from) active.push(order[next++]);
        const piece = document.createTextNode(this.slice(from, to));
        if (!active.length) { parts.append(piece); continue; }
        const cover = [...active].sort((a, b) => (a.end - a.start) - (b.end - b.start) || a.i - b.i);
        const mark = document.createElement("mark");
        mark.className = "pd-span";
        mark.style.setProperty("--c", this.color(cover[0].label));
        if (cover.length > 1) mark.style.boxShadow = cover.slice(1, 4).map((o, n) => `0 ${2 + 2 * n}px 0 ${this.color(o.label)}`).join(",");
        mark.covers = cover.map((o) => o.i);
        const ended = cover.filter((o) => o.end === to).map((o) => this.labels[o.label]);
        if (ended.length) mark.dataset.tag = ended.join(" · ");
        const chosen = cover.find((o) => o.i === this.chosen);
        if (chosen) mark.classList.add("chosen");
        if (chosen && chosen.start === from && !this.readonly) parts.append(this.gripOf("start"));
        mark.append(piece);
        parts.append(mark);
        if (chosen && chosen.end === to && !this.readonly) parts.append(this.gripOf("end"));
      }
      box.replaceChildren(parts);
      if (kept) this.select(kept[0], kept[1]);
    },
    gripOf(side) { const grip = document.createElement("i"); grip.className = `pd-grip ${side}`; grip.dataset.side = side; return grip; },
    select(start, end) {
      const [a, x] = this.nodeAt(this.points[start]), [b, y] = this.nodeAt(this.points[end]);
      document.getSelection().setBaseAndExtent(a, x, b, y);
    },
    place() {
      const selection = document.getSelection(), box = this.$refs.text;
      this.caret = null;
      const at = this.selected();
      if (at) this.last = at[1] > at[0] ? at : null;
      if (document.activeElement !== box || !selection.rangeCount || !box.contains(selection.focusNode)) return;
      const range = document.createRange();
      range.setStart(selection.focusNode, selection.focusOffset);
      let place = range.getClientRects()[0];
      if (!place && selection.focusNode.nodeType === 3 && selection.focusNode.length) {
        const at = Math.min(selection.focusOffset, selection.focusNode.length - 1);
        range.setEnd(selection.focusNode, at + 1);
        range.setStart(selection.focusNode, at);
        place = range.getClientRects()[0];
      }
      if (!place) return;
      const around = box.parentElement.getBoundingClientRect(), inside = box.getBoundingClientRect();
      if (place.bottom > inside.bottom) box.scrollTop += place.bottom - inside.bottom + 8;
      else if (place.top < inside.top) box.scrollTop -= inside.top - place.top + 8;
      else this.caret = { left: `${place.left - around.left}px`, top: `${place.top - around.top}px`, height: `${place.height}px` };
    },
    focus() {
      const selection = document.getSelection();
      if (!selection.rangeCount || !this.$refs.text.contains(selection.focusNode)) {
        const start = this.one?.start ?? 0;
        this.select(start, start);
      }
      this.place();
    },
    /* -- keys and mouse -- */
    key(event) {
      if (event.isComposing) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.altKey && step && this.one) this.shift(event.shiftKey ? "start" : "end", step);
      else if (MOVES[event.key] && !event.altKey) {
        this.go(event);
        this.place();
      } else if (event.ctrlKey || event.metaKey || event.altKey) return;
      else if (event.key === "Delete" || event.key === "Backspace") this.remove();
      else if (event.key === "]" || event.key === "[") this.step(event.key === "]" ? 1 : -1);
      else if (event.key === "Escape" && (this.one || !document.getSelection().isCollapsed)) this.clear();
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    /* As a text field does it; the selection never leaves the text. */
    go(event) {
      const [direction, by] = MOVES[event.key], selection = document.getSelection(), far = event.ctrlKey || event.metaKey;
      const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
      if (far && by === "lineboundary") {
        const [node, place] = this.nodeAt(event.key === "Home" ? 0 : this.text.length);
        if (event.shiftKey) selection.extend(node, place); else selection.collapse(node, place);
        return;
      }
      const unit = far ? { character: "word", line: "paragraph" }[by] : by;
      selection.modify(event.shiftKey ? "extend" : "move", direction, unit);
      if (!this.$refs.text.contains(selection.focusNode)) selection.setBaseAndExtent(
        ...(event.shiftKey ? [anchorNode, anchorOffset] : [focusNode, focusOffset]), focusNode, focusOffset);
    },
    clear() {
      const at = this.selected();
      this.choose(null);
      if (at) this.select(at[1], at[1]);
    },
    click(event) {
      const mark = event.target.closest?.("mark.pd-span"), selection = document.getSelection();
      if (!selection.isCollapsed) return;
      const covers = mark?.covers ?? [];
      this.choose(covers.length ? covers[(covers.indexOf(this.chosen) + 1) % covers.length] : null);
    },
    step(by) {
      if (!this.drawn.length) return;
      const order = this.drawn.map((one, i) => i).sort((a, b) => this.drawn[a].start - this.drawn[b].start || this.drawn[b].end - this.drawn[a].end);
      const at = this.selected()?.[0] ?? 0;
      let place = order.indexOf(this.chosen);
      if (place >= 0) place = (place + by + order.length) % order.length;
      else {
        place = order.findIndex((i) => this.drawn[i].start >= at);
        if (by < 0) place = (place < 0 ? order.length : place) - 1;
        if (place < 0) place = by < 0 ? order.length - 1 : 0;
      }
      this.choose(order[place]);
      this.select(this.one.start, this.one.start);
    },
    choose(i) {
      this.chosen = i;
      this.draw();
      this.said = this.one ? `${this.labels[this.one.label]}: ${this.excerpt(this.one)}` : "";
    },
    /* -- changes -- */
    label(index) {
      if (this.readonly) return;
      const at = this.selected() ?? this.last, made = at && at[1] > at[0];  // it may have been left for the search of a label
      this.last = null;
      if (made) this.make(at[0], at[1], index);
      else if (this.one && this.overlap !== "one") this.change(this.chosen, { ...this.one, label: index });
      else window.polydetr?.notice(this.words.first, "info");
    },
    make(start, end, label) {
      const crosses = (o) => o.start < end && o.end > start;
      if (this.overlap === "words") {  // every word has a label: those that are touched get it
        const touched = this.drawn.map((o) => (crosses(o) ? { ...o, label } : o));
        this.chosen = this.drawn.findIndex(crosses);
        this.told(touched);
      } else {
        const one = { start, end, label };
        let others = this.overlap === "one" ? [] : this.overlap === "apart" ? this.drawn.filter((o) => !crosses(o)) : this.drawn;
        others = others.filter((o) => !(o.start === start && o.end === end && o.label === label));
        this.chosen = others.length;
        this.told([...others, one]);
      }
      if (document.activeElement === this.$refs.text) this.select(end, end); else document.getSelection().removeAllRanges();
      this.said = this.one ? `${this.labels[label]}: ${this.excerpt(this.one)}` : "";
    },
    change(i, one) { this.told(this.drawn.map((o, n) => (n === i ? one : o))); },
    remove() {
      const at = this.selected();
      let i = this.chosen;
      if (i === null && at) {
        const under = this.drawn.map((o, n) => [o, n]).filter(([o]) => o.start <= at[0] && at[1] <= o.end && (at[1] > at[0] || at[0] < o.end));
        i = under.sort(([a], [b]) => a.end - a.start - (b.end - b.start))[0]?.[1] ?? null;
      }
      if (i === null || this.readonly || this.overlap === "words") return;
      this.chosen = null;
      this.told(this.drawn.filter((_, n) => n !== i));
    },
    /* One end of the chosen span moves by a character, not over the other end, not into a neighbor where none may overlap. */
    shift(side, by) { if (this.one) this.end(side, this.one[side] + by); },
    end(side, place) {
      const one = { ...this.one }, others = this.drawn.filter((_, n) => n !== this.chosen);
      const apart = this.overlap === "apart";
      if (this.readonly || this.overlap === "words") return;
      if (side === "start") {
        const least = apart ? Math.max(0, ...others.filter((o) => o.end <= one.start).map((o) => o.end)) : 0;
        one.start = Math.min(Math.max(place, least), one.end - 1);
      } else {
        const most = apart ? Math.min(this.length, ...others.filter((o) => o.start >= one.end).map((o) => o.start)) : this.length;
        one.end = Math.max(Math.min(place, most), one.start + 1);
      }
      if (one.start !== this.one.start || one.end !== this.one.end) this.change(this.chosen, one);
    },
    grip(event) {
      const side = event.target.dataset?.side;
      if (!side) return;
      event.preventDefault();
      const follow = (moved) => {
        const at = document.caretPositionFromPoint?.(moved.clientX, moved.clientY);
        const range = at ? null : document.caretRangeFromPoint?.(moved.clientX, moved.clientY);
        const node = at?.offsetNode ?? range?.startContainer;
        if (node && this.$refs.text.contains(node)) this.end(side, this.point(this.placeOf(node, at?.offset ?? range.startOffset), side === "end"));
      };
      const done = () => { document.removeEventListener("pointermove", follow); document.removeEventListener("pointerup", done); document.removeEventListener("pointercancel", done); };
      document.addEventListener("pointermove", follow);
      document.addEventListener("pointerup", done);
      document.addEventListener("pointercancel", done);
    },
    told(items) {
      this.drawn = items;
      this.draw();
      this.$emit("change", items.map((o) => ({ start: o.start, end: o.end, label: o.label })));
    },
  },
};
