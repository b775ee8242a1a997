// An image with boxes on it: thin, their labels outside; those below a score hidden, by a slider.
export default {
  template: `
    <div class="pd-boxes">
      <p v-if="broken" class="pd-note" role="status">{{ words.unseen }}</p>
      <div class="pd-canvas" :class="{ pixels: wide && wide < 128 }">
        <img ref="image" :src="src" :alt="alt" @load="loaded" @error="broken = true" />
        <svg v-if="wide" :viewBox="'0 0 ' + wide + ' ' + high" preserveAspectRatio="none" aria-hidden="true">
          <rect v-for="one in shown" :key="one.i" :x="one.box[0]" :y="one.box[1]" :width="one.box[2] - one.box[0]"
            :height="one.box[3] - one.box[1]" :stroke="one.color" fill="none" vector-effect="non-scaling-stroke"
            :stroke-width="one.i === chosen ? 4 : 2" :stroke-dasharray="one.weak ? '5 4' : null" />
        </svg>
        <button v-for="one in shown" v-if="wide" :key="'b' + one.i" type="button" class="pd-boxlabel" data-row
          :class="{ chosen: one.i === chosen }" :style="place(one)" @click="chosen = chosen === one.i ? null : one.i"
          :aria-pressed="one.i === chosen ? 'true' : 'false'" :aria-label="said(one)">
          <span dir="auto">{{ one.label }}</span> {{ number(one) }}</button>
      </div>
      <div v-if="boxes.length" class="pd-row pd-slider">
        <label :for="uid">{{ words.least }}</label>
        <input :id="uid" type="range" min="0" max="1" step="0.01" v-model.number="least" :aria-valuetext="least.toFixed(2)" />
        <output class="pd-number" :for="uid">{{ least.toFixed(2) }}</output>
        <span class="pd-note" role="status">{{ words.count.replace("{shown}", shown.length).replace("{all}", boxes.length) }}</span>
      </div>
      <table v-if="boxes.length" class="pd-table">
        <thead><tr><th scope="col">{{ words.label }}</th><th scope="col" class="pd-number">{{ words.score }}</th>
          <th scope="col" class="pd-number">{{ words.place }}</th></tr></thead>
        <tbody><tr v-for="one in shown.slice(0, 50)" :key="'r' + one.i" :class="{ chosen: one.i === chosen }" @click="chosen = one.i">
          <td><span class="pd-chip" :style="{ '--c': one.color }" dir="auto">{{ one.label }}</span> <span v-if="one.weak" class="pd-note">{{ words.weak }}</span></td>
          <td class="pd-number">{{ number(one) }}</td><td class="pd-number">{{ one.box.map(Math.round).join(", ") }}</td></tr></tbody>
      </table>
      <p v-else class="pd-note">{{ words.none }}</p>
    </div>`,
  props: { source: String, alt: String, boxes: Array, words: Object, start: Number },
  data() { return { least: this.start ?? 0, wide: 0, high: 0, chosen: null, broken: false, uid: `s-${Math.random().toString(36).slice(2)}` }; },
  computed: {
    /* "upload:…" is an image of this page's form: it is here already, and is not sent back and forth. */
    src() { return this.source.startsWith("upload:") ? (window.polydetrUploads?.[this.source.slice(7)] ?? "") : this.source; },
    shown() { return this.boxes.map((one, i) => ({ ...one, i })).filter((one) => one.score >= this.least - 1e-9); },
  },
  watch: { source() { this.broken = false; this.chosen = null; } },
  methods: {
    loaded() { this.wide = this.$refs.image.naturalWidth; this.high = this.$refs.image.naturalHeight; },
    number(one) { return one.score.toFixed(2); },
    said(one) { return `${one.label} ${this.number(one)}, ${this.words.place} ${one.box.map(Math.round).join(", ")}`; },
    place(one) {
      const above = one.box[1] / this.high > 0.08, x = Math.min(Math.max(one.box[0] / this.wide, 0), 0.92);
      return { "--c": one.color, left: `${100 * x}%`, ...(above ? { bottom: `${100 * (1 - one.box[1] / this.high)}%` } : { top: `${100 * Math.min(one.box[3] / this.high, 0.94)}%` }) };
    },
  },
};
