/* An image with boxes: drawn, moved and resized by dragging, by keys, or by typing. Boxes are left, top, right, bottom
   in pixels of the image as it was sent; what is not touched keeps its numbers to the last digit. */
const GRIPS = ["nw", "n", "ne", "e", "se", "s", "sw", "w"], LEAST = 1;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export default {
  template: `
    <div class="pd-boxes">
      <div class="pd-row">
        <button v-if="!readonly" type="button" class="pd-button plain small" data-key="b" @click="add">{{ words.add }}<kbd aria-hidden="true">b</kbd></button>
        <button type="button" class="pd-button plain small" data-key="-" :aria-label="words.smaller" @click="zoom = Math.max(1, zoom / 1.5)">−</button>
        <span class="pd-note pd-number">{{ Math.round(100 * zoom) }} %</span>
        <button type="button" class="pd-button plain small" data-key="+" :aria-label="words.larger" @click="zoom = Math.min(16, zoom * 1.5)">+</button>
        <span class="pd-note">{{ words.how }}</span>
      </div>
      <div class="pd-boxes-scroll" ref="scroll" tabindex="0" role="group" :aria-label="title" @keydown="key">
        <div class="pd-boxes-stage" ref="stage" :class="{ readonly }" :style="{ width: 100 * zoom + '%', maxWidth: widest }"
          @pointerdown="down" @pointermove="moved" @pointerup="up" @pointercancel="up">
          <img :src="src" alt="" draggable="false">
          <div v-for="(one, i) in shown" :key="i" class="pd-box" :class="{ chosen: i === chosen }" :style="at(one)" :data-box="i">
            <span class="pd-box-label" :class="{ below: one.box[1] / height < 0.06 }" dir="auto">{{ labels[one.label] }}</span>
            <template v-if="i === chosen && !readonly"><i v-for="g in grips" :key="g" class="pd-box-grip" :class="g" :data-grip="g"></i></template>
          </div>
        </div>
      </div>
      <div class="pd-row" v-if="one && !readonly">
        <span class="pd-chip" :style="{ '--c': color(one.label) }" dir="auto">{{ labels[one.label] }}</span>
        <label v-for="(side, n) in sides" :key="side" class="pd-box-side">{{ words[side] }}
          <input type="number" step="any" :value="Math.round(100 * one.box[n]) / 100" @change="typed(n, $event)"></label>
        <button type="button" class="pd-button plain small" :aria-label="words.remove" :title="words.remove" @click="remove">✕</button>
      </div>
      <span class="pd-hidden" aria-live="polite">{{ said }}</span>
    </div>`,
  props: { src: String, width: Number, height: Number, items: Array, given: Number, labels: Array, colors: Array, readonly: Boolean, title: String, words: Object },
  data: () => ({ drawn: [], chosen: null, draft: null, zoom: 1, pen: 0, said: "", grips: GRIPS, sides: ["left", "top", "right", "bottom"] }),
  computed: {
    one() { return this.drawn[this.chosen]; },
    /* As a whole in sight; a small image is enlarged up to four times. */
    widest() { return `calc(${this.zoom} * min(${Math.min(4 * this.width, 1280)}px, ${(56 * this.width) / this.height}vh))`; },
    shown() { return this.draft ? this.drawn.map((o, i) => (i === this.draft.i ? this.draft.one : o)).concat(this.draft.i === this.drawn.length ? [this.draft.one] : []) : this.drawn; },
  },
  watch: {
    given() { this.take(); },
  },
  mounted() {
    this.take();
    this.onLabel = (event) => this.label(event.detail.index);
    this.around = this.$el.closest(".pd-editor") ?? this.$el;
    this.around.addEventListener("pd-label", this.onLabel);
  },
  unmounted() { this.around.removeEventListener("pd-label", this.onLabel); },
  methods: {
    take() {
      this.drawn = this.items.map((one) => ({ box: [...one.box], label: one.label }));
      if (this.chosen !== null && this.chosen >= this.drawn.length) this.chosen = null;
    },
    color(label) { return this.colors[label % this.colors.length]; },
    at(one) {
      const [l, t, r, b] = one.box, across = (x) => `${(100 * x) / this.width}%`, down = (y) => `${(100 * y) / this.height}%`;
      return { left: across(l), top: down(t), width: across(r - l), height: down(b - t), "--c": this.color(one.label) };
    },
    /* -- dragging -- */
    pixel(event) {
      const place = this.$refs.stage.getBoundingClientRect();
      const x = ((event.clientX - place.left) / place.width) * this.width, y = ((event.clientY - place.top) / place.height) * this.height;
      return [Math.min(Math.max(x, 0), this.width), Math.min(Math.max(y, 0), this.height)].map((v) => Math.round(10 * v) / 10);
    },
    hit([x, y]) {
      const inside = this.drawn.map((o, i) => [o.box, i]).filter(([[l, t, r, b]]) => l <= x && x <= r && t <= y && y <= b);
      const size = ([l, t, r, b]) => (r - l) * (b - t);
      return inside.sort(([a], [b]) => size(a) - size(b))[0]?.[1] ?? null;
    },
    down(event) {
      if (event.button || this.readonly) return;
      const from = this.pixel(event), grip = event.target.dataset?.grip;
      let i = grip ? this.chosen : event.shiftKey ? null : this.hit(from);
      this.drag = { from, grip, i, moved: false, before: i === null ? null : [...this.drawn[i].box] };
      if (i !== null) this.choose(i);
      this.$refs.stage.setPointerCapture(event.pointerId);
      this.$refs.scroll.focus({ preventScroll: true });
      event.preventDefault();
    },
    moved(event) {
      if (!this.drag) return;
      const { from, grip, i, before } = this.drag, to = this.pixel(event);
      if (Math.abs(to[0] - from[0]) < LEAST && Math.abs(to[1] - from[1]) < LEAST && !this.drag.moved) return;
      this.drag.moved = true;
      if (i === null) {
        this.draft = { i: this.drawn.length, one: { box: this.ordered([from[0], from[1], to[0], to[1]]), label: this.pen } };
        this.chosen = null;
      } else if (grip) {
        const box = [...before];
        if (grip.includes("w")) box[0] = to[0];
        if (grip.includes("e")) box[2] = to[0];
        if (grip.includes("n")) box[1] = to[1];
        if (grip.includes("s")) box[3] = to[1];
        this.draft = { i, one: { ...this.drawn[i], box: this.ordered(box) } };
      } else this.draft = { i, one: { ...this.drawn[i], box: this.pushed(before, to[0] - from[0], to[1] - from[1]) } };
    },
    up() {
      const draft = this.draft, drag = this.drag;
      this.drag = this.draft = null;
      if (!drag) return;
      if (!draft) { if (!drag.moved && drag.i === null) this.choose(null); return; }
      const [l, t, r, b] = draft.one.box;
      if (r - l < LEAST || b - t < LEAST) return;
      if (draft.i === this.drawn.length) this.told([...this.drawn, draft.one], draft.i);
      else this.change(draft.i, draft.one);
    },
    ordered([l, t, r, b]) { return [Math.min(l, r), Math.min(t, b), Math.max(l, r), Math.max(t, b)]; },
    /* Moved as a whole, and kept within the image. */
    pushed([l, t, r, b], x, y) {
      x = Math.min(Math.max(x, -l), this.width - r);
      y = Math.min(Math.max(y, -t), this.height - b);
      return [l + x, t + y, r + x, b + y].map((v) => Math.round(100 * v) / 100);
    },
    /* -- keys and typing -- */
    key(event) {
      const step = STEPS[event.key], far = event.ctrlKey || event.metaKey ? 10 : 1;
      if (event.target !== this.$refs.scroll || event.altKey || event.isComposing) return;
      if (step && this.one && !this.readonly) {
        const [x, y] = step.map((v) => v * far), [l, t, r, b] = this.one.box;
        const box = event.shiftKey
          ? [l, t, Math.min(Math.max(r + x, l + LEAST), this.width), Math.min(Math.max(b + y, t + LEAST), this.height)]
          : this.pushed(this.one.box, x, y);
        this.change(this.chosen, { ...this.one, box });
      } else if (event.ctrlKey || event.metaKey) return;
      else if (event.key === "Delete" || event.key === "Backspace") this.remove();
      else if ((event.key === "]" || event.key === "[") && this.drawn.length) {
        const by = event.key === "]" ? 1 : -1, count = this.drawn.length;
        this.choose(this.chosen === null ? (by > 0 ? 0 : count - 1) : (this.chosen + by + count) % count);
      } else if (event.key === "Escape" && this.one) this.choose(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    typed(side, event) {
      const value = Number(event.target.value), box = [...this.one.box];
      const most = side % 2 ? this.height : this.width;
      if (event.target.value.trim() === "" || !isFinite(value)) { event.target.value = box[side]; return; }
      box[side] = Math.min(Math.max(value, 0), most);
      const [l, t, r, b] = box;
      if (r - l < LEAST || b - t < LEAST) { event.target.value = this.one.box[side]; window.polydetr?.notice(this.words.flat, "bad"); return; }
      this.change(this.chosen, { ...this.one, box });
    },
    /* -- changes -- */
    label(index) {
      if (this.readonly) return;
      this.pen = index;
      if (this.one) this.change(this.chosen, { ...this.one, label: index });
    },
    add() {
      const [w, h] = [this.width / 4, this.height / 4], round = (v) => Math.round(10 * v) / 10;
      const box = [this.width / 2 - w / 2, this.height / 2 - h / 2, this.width / 2 + w / 2, this.height / 2 + h / 2].map(round);
      this.told([...this.drawn, { box, label: this.pen }], this.drawn.length);
      this.$refs.scroll.focus();
    },
    choose(i) {
      this.chosen = i;
      this.said = this.one ? `${this.labels[this.one.label]} ${i + 1} / ${this.drawn.length}: ${this.one.box.map(Math.round).join(", ")}` : "";
      if (this.one) this.pen = this.one.label;
    },
    change(i, one) { this.told(this.drawn.map((o, n) => (n === i ? one : o)), i); },
    remove() {
      if (this.chosen === null || this.readonly) return;
      this.told(this.drawn.filter((_, n) => n !== this.chosen), null);
      this.$refs.scroll.focus();
    },
    told(items, chosen) {
      this.drawn = items;
      this.choose(chosen);
      this.$emit("change", items.map((o) => ({ box: [...o.box], label: o.label })));
    },
  },
};
