// A form for one row of a table. What is typed stays in the browser until the row is sent: one message, however long.
const spell = (said, values) => said.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const show = (number) => new Intl.NumberFormat(undefined, window.polydetr.figures(number, 6)).format(number);
const empty = (field) => (field.kind === "history" || field.kind === "image" ? [] : "");
const most = (field) => (field.several ? 16 : 1);  // images that are taken at once
let count = 0;

/* A name among many: what is typed narrows the list, and may be a name that is not in it (WAI-ARIA, "Combobox"). */
const Choice = {
  template: `
    <div class="pd-combo" @focusout="left">
      <input :id="uid" class="pd-input" type="text" role="combobox" autocomplete="off" aria-autocomplete="list" dir="auto"
        :aria-expanded="open ? 'true' : 'false'" :aria-controls="uid + 'l'" :aria-describedby="described"
        :aria-activedescendant="open && at >= 0 ? uid + 'o' + at : null"
        :value="modelValue" @input="typed($event.target.value)" @click="begin" @keydown.down.prevent="go(1)" @keydown.up.prevent="go(-1)"
        @keydown.enter="enter" @keydown.esc="open = false" />
      <button type="button" class="pd-combo-open" tabindex="-1" aria-hidden="true" @mousedown.prevent @click="open ? (open = false) : begin()">▾</button>
      <ul v-show="open && found.length" :id="uid + 'l'" role="listbox" class="pd-listbox" :aria-label="label">
        <li v-for="(name, i) in found" :key="i" :id="uid + 'o' + i" role="option" dir="auto" :aria-selected="i === at ? 'true' : 'false'"
          @mousedown.prevent @click="take(name)">{{ name }}</li>
        <li v-if="rest" role="option" aria-disabled="true" aria-selected="false" class="pd-note">{{ spell(words.more, { count: show(rest) }) }}</li>
      </ul>
    </div>`,
  props: { modelValue: String, names: Array, uid: String, label: String, described: String, words: Object },
  emits: ["update:modelValue"],
  data() { return { open: false, at: -1, narrow: false }; },
  computed: {
    matching() {
      const wanted = this.narrow ? this.modelValue.trim().toLowerCase() : "";
      if (!wanted) return this.names;
      const found = this.names.filter((name) => name.toLowerCase().includes(wanted));
      return found.sort((a, b) => b.toLowerCase().startsWith(wanted) - a.toLowerCase().startsWith(wanted));
    },
    found() { return this.matching.slice(0, 50); },
    rest() { return this.matching.length - this.found.length; },
  },
  methods: {
    spell, show,
    begin() { this.open = true; this.narrow = false; this.at = this.found.indexOf(this.modelValue); },
    typed(value) { this.$emit("update:modelValue", value); this.open = this.narrow = true; this.at = -1; },
    go(step) {
      if (!this.open) return this.begin();
      const all = this.found.length;
      this.at = all ? (this.at + step + all) % all : -1;
      this.$nextTick(() => document.getElementById(this.uid + "o" + this.at)?.scrollIntoView({ block: "nearest" }));
    },
    enter(event) {
      if (event.ctrlKey || event.metaKey || !this.open || this.at < 0) return;
      event.preventDefault();
      this.take(this.found[this.at]);
    },
    take(name) { this.$emit("update:modelValue", name); this.open = false; },
    left(event) { if (!this.$el.contains(event.relatedTarget)) this.open = false; },
  },
};

const Cell = {
  name: "Cell",
  components: { Choice },
  template: `
    <div class="pd-field" :class="{ bad: error, small }">
      <div class="pd-field-head">
        <label v-if="field.kind !== 'history'" :for="uid" dir="auto">{{ field.name }}</label>
        <span v-else class="pd-field-name" :id="uid" dir="auto">{{ field.name }}</span>
        <span class="pd-note pd-number">{{ beside }}</span>
      </div>
      <Choice v-if="field.kind === 'category'" :modelValue="modelValue" @update:modelValue="$emit('update:modelValue', $event)" :names="field.names"
        :uid="uid" :label="field.name" :described="uid + 'n'" :words="words" />
      <textarea v-else-if="field.kind === 'text' || field.kind === 'json'" :id="uid" class="pd-input" :rows="rows" dir="auto" :aria-describedby="uid + 'n'"
        :value="modelValue" @input="$emit('update:modelValue', $event.target.value)"></textarea>
      <input v-else-if="field.kind === 'number' || field.kind === 'date'" :id="uid" class="pd-input" type="text" autocomplete="off"
        :inputmode="field.kind === 'number' ? 'decimal' : null" :placeholder="field.example" :aria-describedby="uid + 'n'"
        :value="modelValue" @input="$emit('update:modelValue', $event.target.value)" />
      <div v-else-if="field.kind === 'image'" class="pd-drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
        <div v-if="modelValue.length" class="pd-thumbs">
          <figure v-for="(image, i) in modelValue" :key="image.token">
            <img :src="image.source" :alt="image.name" @error="image.unseen = true" />
            <figcaption><span dir="auto">{{ image.name }}</span>
              <button type="button" class="pd-button quiet" :aria-label="spell(words.remove, { name: image.name })" @click="remove(i)">✕</button></figcaption>
          </figure>
        </div>
        <p v-else class="pd-note">{{ words.drop }}</p>
        <div class="pd-row">
          <label class="pd-button pd-file">{{ words.choose }}<input :id="uid" ref="file" type="file" accept="image/*" :multiple="field.several" :aria-label="field.name + ': ' + words.choose" :aria-describedby="uid + 'n'" @change="picked" /></label>
          <label v-if="touch" class="pd-button pd-file">{{ words.camera }}<input type="file" accept="image/*" capture="environment" :aria-label="field.name + ': ' + words.camera" @change="picked" /></label>
          <span v-if="waiting" class="pd-note" role="status">{{ words.sending }}</span>
        </div>
      </div>
      <div v-else class="pd-field-items" role="group" :aria-labelledby="uid">
        <fieldset v-for="(item, i) in modelValue" :key="item.key" class="pd-item">
          <legend>{{ spell(words.item, { number: i + 1 }) }}</legend>
          <Cell v-for="(part, j) in field.fields" :key="j" :field="part" :words="words" :uid="uid + '-' + item.key + '-' + j" :upload="upload" small
            v-model="item.values[j]" />
          <button type="button" class="pd-button quiet" @click="remove(i)">{{ spell(words.remove, { name: spell(words.item, { number: i + 1 }) }) }}</button>
        </fieldset>
        <button type="button" class="pd-button" @click="add">{{ words.add }}</button>
      </div>
      <p :id="uid + 'n'" class="pd-note pd-said" role="status"><span v-if="error" class="pd-error" dir="auto">{{ error }}</span>
        <span v-else-if="warning" class="pd-warn">{{ warning }}</span><template v-else>{{ note }}</template></p>
    </div>`,
  props: { field: Object, modelValue: null, words: Object, uid: String, error: String, upload: Function, large: Boolean, small: Boolean },
  emits: ["update:modelValue"],
  data() { return { over: false, waiting: 0, refused: "", touch: window.matchMedia("(pointer: coarse)").matches }; },
  computed: {
    rows() { return this.small ? 1 : this.field.kind === "json" ? 2 : this.large ? 5 : 3; },
    beside() {
      if (this.field.kind === "text") return spell(this.words.characters, { count: show([...this.modelValue].length) });
      return this.field.kind === "history" ? spell(this.words.items, { count: this.modelValue.length, most: this.field.most || "∞" }) : "";
    },
    note() {
      const { kind, low, high, names, total } = this.field;
      if (kind === "number" && low != null) return spell(this.words.range, { low: show(low), high: show(high) });
      if (kind === "date" && low != null) return spell(this.words.years, { low: Math.floor(low), high: Math.floor(high) });
      if (kind === "category" && total) return spell(this.words.names, { count: show(total) });
      return kind === "image" ? this.words.paste : this.field.note ?? "";
    },
    known() { return this.field.kind === "category" ? new Set(this.field.names) : null; },
    warning() {
      if (this.refused) return this.refused;
      const { kind, low, high, names, total } = this.field, said = typeof this.modelValue === "string" ? this.modelValue.trim() : "";
      if (!said) return "";
      if (kind === "number" && low != null) {
        const number = Number(said.replace(/[\s_]/g, ""));
        if (!isNaN(number) && (number < low || number > high)) return spell(this.words.outside, { low: show(low), high: show(high) });
      }
      if (kind === "date" && low != null) {
        const year = Number(said.match(/(?:^|\D)(\d{4})(?:\D|$)/)?.[1]);
        if (year && (year < Math.floor(low) || year > Math.floor(high))) return spell(this.words.outside_years, { low: Math.floor(low), high: Math.floor(high) });
      }
      if (kind === "category" && names.length === total && !this.known.has(said)) return spell(this.words.unknown, { value: said });
      return "";
    },
  },
  methods: {
    spell,
    add() { this.$emit("update:modelValue", [...this.modelValue, { key: ++count, values: this.field.fields.map(empty) }]); },
    remove(i) { this.$emit("update:modelValue", this.modelValue.filter((_, j) => j !== i)); },
    dropped(event) { this.over = false; this.take(event.dataTransfer.files); },
    picked(event) { this.take(event.target.files); event.target.value = ""; },
    async take(files) {
      const wanted = [...files].slice(0, most(this.field));
      if (!wanted.length) return;
      this.refused = wanted.length < files.length ? spell(this.words.cut, { count: wanted.length, all: files.length }) : "";
      this.waiting += 1;
      try {
        const found = [];
        for (const file of wanted) found.push(await this.upload(file));
        this.$emit("update:modelValue", this.field.several ? [...this.modelValue, ...found] : found);
      } catch (error) {
        this.refused = error.message;
      } finally { this.waiting -= 1; }
    },
  },
};

export default {
  components: { Cell },
  template: `
    <form class="pd-form" @submit.prevent="send" novalidate>
      <div v-if="fields.length > first" class="pd-field">
        <label :for="base + 'f'">{{ words.filter }}</label>
        <input :id="base + 'f'" class="pd-input" type="search" data-search v-model="wanted" :aria-describedby="base + 'fn'" @keydown.enter.prevent />
        <p :id="base + 'fn'" class="pd-note" role="status">{{ wanted ? spell(words.matching, { count: matching.length, all: fields.length }) : "" }}</p>
      </div>
      <template v-if="wanted.trim()">
        <Cell v-for="i in matching.slice(0, 60)" :key="i" :field="fields[i]" v-model="values[i]" :words="words" :uid="base + i" :error="errors[i]" :upload="upload" />
      </template>
      <template v-else>
        <Cell v-for="i in numbers(0, first)" :key="i" :field="fields[i]" v-model="values[i]" :words="words" :uid="base + i" :error="errors[i]" :upload="upload" :large="texts === 1" />
        <details v-for="group in groups" :key="group[0]" class="pd-group" :open="opened[group[0]]" @toggle="opened[group[0]] = $event.target.open">
          <summary>{{ spell(words.group, { first: group[0] + 1, last: group[1] }) }} <span class="pd-note" dir="auto">{{ fields[group[0]].name }} … {{ fields[group[1] - 1].name }}</span></summary>
          <template v-if="opened[group[0]]">
            <Cell v-for="i in numbers(group[0], group[1])" :key="i" :field="fields[i]" v-model="values[i]" :words="words" :uid="base + i" :error="errors[i]" :upload="upload" />
          </template>
        </details>
      </template>
      <div class="pd-row pd-actions">
        <button type="submit" class="pd-button primary">{{ words.ask }} <kbd aria-hidden="true">Ctrl ⏎</kbd></button>
        <button type="button" class="pd-button" data-key="e" @click="$emit('example')">{{ words.example }} <kbd aria-hidden="true">e</kbd></button>
        <button type="button" class="pd-button quiet" @click="clear">{{ words.clear }}</button>
      </div>
    </form>`,
  props: { fields: Array, words: Object, url: String, begin: Array, faults: Object, first: Number, most: Number },
  emits: ["ask", "example", "edited"],
  data() { return { values: this.fields.map(empty), errors: {}, wanted: "", opened: {}, base: `row${++count}-` }; },
  computed: {
    texts() { return this.fields.filter((field) => field.kind === "text").length; },
    matching() {
      const wanted = this.wanted.trim().toLowerCase();
      return this.numbers(0, this.fields.length).filter((i) => this.fields[i].name.toLowerCase().includes(wanted));
    },
    groups() {
      const found = [];
      for (let i = this.first; i < this.fields.length; i += 24) found.push([i, Math.min(i + 24, this.fields.length)]);
      return found;
    },
  },
  watch: { faults() { this.blame(); }, values: { deep: true, handler() { this.remember(); } } },
  created() { if (this.begin) this.fill(this.begin); this.recall(); this.blame(); },
  mounted() { document.addEventListener("paste", this.pasted); document.addEventListener("keydown", this.pressed); },
  beforeUnmount() {
    document.removeEventListener("paste", this.pasted); document.removeEventListener("keydown", this.pressed);
    for (const source of Object.values(window.polydetrUploads ?? {})) if (source.startsWith("blob:")) URL.revokeObjectURL(source);
  },
  methods: {
    spell,
    numbers(from, to) { return Array.from({ length: Math.max(0, Math.min(to, this.fields.length) - from) }, (_, i) => from + i); },
    /* Values as the server has them → as the form holds them. */
    held(field, value) {
      if (field.kind === "image") return (value ?? []).map((image) => ({ ...image, source: this.keep(image.token, image.source) }));
      if (field.kind === "history") return (value ?? []).map((item) => ({ key: ++count, values: field.fields.map((part, j) => this.held(part, item[j])) }));
      return value ?? "";
    },
    bare(field, value) {
      if (field.kind === "image") return value.map((image) => image.token);
      if (field.kind === "history") return value.map((item) => field.fields.map((part, j) => this.bare(part, item.values[j])));
      return value;
    },
    /* What was typed outlives a reload, as after a computer has slept. It belongs to what the address said when it was typed: a row that was
       asked stands there itself. Images are too large to be kept. */
    typed(field, value) {
      if (field.kind === "image") return [];
      return field.kind === "history" ? value.map((item) => field.fields.map((part, j) => this.typed(part, item.values[j]))) : value;
    },
    place() { return `polydetr.row:${location.pathname}`; },
    names() { return this.fields.map((field) => `${field.kind} ${field.name}`).join("\n"); },
    remember() {
      const values = this.fields.map((field, i) => this.typed(field, this.values[i]));
      try {
        if (values.every((value) => value.length === 0)) sessionStorage.removeItem(this.place());
        else sessionStorage.setItem(this.place(), JSON.stringify({ search: location.search, names: this.names(), values }));
      } catch { /* full: the page itself still has it */ }
    },
    recall() {
      let kept = null;
      try { kept = JSON.parse(sessionStorage.getItem(this.place())); } catch { /* not ours */ }
      if (kept?.search !== location.search || kept.names !== this.names()) return;
      this.values = this.fields.map((field, i) => (field.kind === "image" ? this.values[i] : this.held(field, kept.values[i])));
    },
    fill(values) { this.values = this.fields.map((field, i) => this.held(field, values[i])); this.errors = {}; },
    clear() { this.values = this.fields.map(empty); this.errors = {}; this.$nextTick(() => this.$el.querySelector("textarea, input")?.focus()); },
    /* Errors beside the columns that they name; a group that holds one is opened. */
    blame() {
      this.errors = Object.fromEntries(Object.entries(this.faults ?? {}));
      for (const i of Object.keys(this.errors)) for (const [from, to] of this.groups) if (i >= from && i < to) this.opened[from] = true;
    },
    send() {
      if (document.querySelector("dialog[open]")) return;
      this.$emit("ask", { values: this.fields.map((field, i) => this.bare(field, this.values[i])), origin: window.location.origin });
    },
    keep(token, source) { (window.polydetrUploads ??= {})[token] = source; return source; },
    async upload(file) {
      if (file.size > this.most) throw new Error(spell(this.words.large, { size: show(file.size / 1048576), most: show(this.most / 1048576) }));
      let answer;
      try {
        answer = await fetch(`${window.path_prefix ?? ""}${this.url}`, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
      } catch { throw new Error(this.words.lost); }
      if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? this.words.lost);
      const { token } = await answer.json();
      return { token, name: file.name || this.words.pasted, source: this.keep(token, URL.createObjectURL(file)) };
    },
    /* Wherever the focus is: an image that was dropped has none. */
    pressed(event) {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || document.querySelector("dialog[open], .q-dialog")) return;
      event.preventDefault();
      this.send();
    },
    pasted(event) {
      const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      const at = this.fields.findIndex((field) => field.kind === "image");
      if (!files.length || at < 0) return;
      event.preventDefault();
      const { several } = this.fields[at], wanted = files.slice(0, most(this.fields[at]));
      const say = (said) => { this.errors = { ...this.errors, [at]: said }; };
      if (wanted.length < files.length) say(spell(this.words.cut, { count: wanted.length, all: files.length }));
      Promise.all(wanted.map(this.upload)).then(
        (found) => { this.values[at] = several ? [...this.values[at], ...found] : found; },
        (error) => say(error.message),
      );
    },
  },
};
