/* What was typed and is not saved yet, kept in this tab: it outlives a reload, and the service. */
export default {
  template: `<span hidden></span>`,
  props: { name: String },
  mounted() {
    const place = `polydetr.drafts:${this.name}`;
    const read = () => { try { return JSON.parse(sessionStorage.getItem(place)) ?? {}; } catch { return {}; } };
    this.keep = (key, value) => {
      const kept = read();
      if (value === undefined || value === null) delete kept[key]; else kept[key] = value;
      try { sessionStorage.setItem(place, JSON.stringify(kept)); } catch { /* full: the page itself still has it */ }
    };
    window.polydetr.keep = this.keep;
    // One by one, as a message of more than a million characters is never sent; what alone is longer stays in the tab.
    const size = (value) => JSON.stringify(JSON.stringify(value)).length;
    const found = Object.entries(read()).filter(([, value]) => size(value) < 950_000), count = found.length;
    const tell = () => {  // again until they arrived: each may be lost, or overtaken
      if (!count) this.$emit("kept", { count });
      for (const [key, value] of found) this.$emit("kept", { key, value, count });
      this.again = setTimeout(tell, 2_000);
    };
    tell();
  },
  unmounted() {
    this.arrived();
    if (window.polydetr.keep === this.keep) delete window.polydetr.keep;
  },
  methods: {
    put(key, value) { this.keep(key, value); },
    arrived() { clearTimeout(this.again); },
  },
};
