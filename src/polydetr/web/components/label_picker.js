/* Labels to choose from: buttons with keys, and a search field where there are more. What is picked is told to the
   server ("pick") and, as the event "pd-label", to the editor around it. */
const KEYS = "123456789asdfgqwerzxcv", MOST = 50;

export default {
  template: `
    <div class="pd-picker" :role="acts ? 'group' : several ? 'group' : 'radiogroup'" :aria-label="title">
      <button v-for="i in shown" :key="i" type="button" class="pd-label" :style="{ '--c': color(i) }" :disabled="disabled"
        :role="acts ? null : several ? 'checkbox' : 'radio'" :aria-checked="acts ? null : String(chosen.includes(i))"
        :aria-pressed="acts ? String(chosen.includes(i)) : null" :data-key="key(i)" @mousedown.prevent @click="pick(i)">
        <span dir="auto">{{ labels[i] }}</span><kbd v-if="key(i)" aria-hidden="true">{{ key(i) }}</kbd>
      </button>
      <div v-if="searched" class="pd-picker-search">
        <input type="text" role="combobox" data-search autocomplete="off" spellcheck="false" :aria-label="words.search" aria-autocomplete="list"
          :placeholder="words.search" :aria-expanded="String(open)" :aria-controls="id" :disabled="disabled" v-model="typed" maxlength="200"
          :aria-activedescendant="open ? id + '-' + at : null" @input="open = true; at = 0" @keydown="move" @blur="leave">
        <div v-show="open" :id="id" class="pd-menu" role="listbox" :aria-label="words.search">
          <div v-for="(one, n) in found" :key="n" :id="id + '-' + n" role="option" class="pd-option" :aria-selected="String(n === at)" dir="auto"
            :style="one.index < 0 ? {} : { '--c': color(one.index) }" @mousedown.prevent="take(one)">{{ one.said }}</div>
        </div>
      </div>
    </div>`,
  props: { labels: Array, colors: Array, first: Array, chosen: Array, several: Boolean, acts: Boolean, keyed: Boolean, adds: Boolean,
           disabled: Boolean, title: String, words: Object },
  data: () => ({ typed: "", open: false, at: 0 }),
  computed: {
    id() { return `${this.$.vnode.props.id}-list`; },
    shown() { return [...new Set([...this.first, ...this.chosen])].filter((i) => i < this.labels.length); },
    searched() { return this.adds || this.labels.length > this.shown.length; },
    found() {
      const wanted = this.typed.trim(), low = wanted.toLowerCase();
      if (!wanted) return [];
      const starts = [], holds = [];
      for (let i = 0; i < this.labels.length && starts.length < MOST; i++) {
        const at = this.labels[i].toLowerCase().indexOf(low);
        if (at >= 0) (at === 0 ? starts : holds).push({ index: i, said: this.labels[i] });
      }
      const found = [...starts, ...holds].slice(0, MOST);
      if (this.adds && !this.labels.includes(wanted)) found.push({ index: -1, name: wanted, said: this.words.new.replace("{label}", () => wanted) });
      return found;
    },
  },
  methods: {
    color(i) { return this.colors[i % this.colors.length]; },
    key(i) { const place = this.shown.indexOf(i); return this.keyed && place < KEYS.length ? KEYS[place] : null; },
    pick(index, name) {
      this.$emit("pick", { index, name: name ?? null });
      if (index >= 0) this.$el.dispatchEvent(new CustomEvent("pd-label", { bubbles: true, detail: { index } }));
    },
    take(one) {
      this.typed = "";
      this.open = false;
      this.pick(one.index, one.name);
    },
    leave() { this.open = false; },
    move(event) {
      if (event.isComposing) return;
      const count = this.found.length;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        this.open = count > 0;
        if (count) this.at = (this.at + (event.key === "ArrowDown" ? 1 : count - 1)) % count;
      } else if (event.key === "Enter" && !event.ctrlKey && count) this.take(this.found[Math.min(this.at, count - 1)]);
      else if (event.key === "Escape") { if (!this.typed) event.target.blur(); this.typed = ""; this.open = false; }
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  },
};
