// Pieces of code behind tabs (WAI-ARIA Authoring Practices, "Tabs"), each with a button that copies it.
export default {
  template: `
    <div class="pd-tabs" data-copied>
      <div class="pd-row">
        <div role="tablist" class="pd-row" :aria-label="label">
          <button v-for="(one, i) in codes" :key="i" type="button" role="tab" class="pd-tab" :id="base + i"
            :aria-selected="i === at ? 'true' : 'false'" :aria-controls="base + 'p'" :tabindex="i === at ? 0 : -1"
            @click="at = i" @keydown.right.prevent="go(1)" @keydown.left.prevent="go(-1)">{{ one[0] }}</button>
        </div>
        <span class="pd-grow"></span>
        <button type="button" class="pd-button" data-copy="" :data-done="copied">{{ copy }}</button>
      </div>
      <div role="tabpanel" :id="base + 'p'" :aria-labelledby="base + at" tabindex="0"><pre class="pd-code">{{ codes[at][1] }}</pre></div>
    </div>`,
  props: { codes: Array, label: String, copy: String, copied: String },
  data() { return { at: 0, base: `tabs-${Math.random().toString(36).slice(2)}-` }; },
  methods: {
    go(step) {
      this.at = (this.at + step + this.codes.length) % this.codes.length;
      this.$nextTick(() => document.getElementById(this.base + this.at)?.focus());
    },
  },
};
