/* A file dropped or chosen, sent as it is to an address of this service; how far it has come is seen here. Or several,
   given to the uploader beside it, which sends them. */
export default {
  template: `
    <div class="pd-file-drop" :class="{over, busy: share !== null}" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
      <input ref="input" type="file" class="pd-hidden" :id="place" :accept="accept" :multiple="!!uploader" :disabled="share !== null" @change="chosen">
      <label :for="place" class="pd-file-drop-label">
        <svg viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M12 16V5 M7 9l5-5 5 5 M5 20h14"/></svg>
        <span class="pd-strong">{{ said.choose }}</span><span v-if="said.kinds" class="pd-note">{{ said.kinds }}</span>
      </label>
      <div v-if="share !== null" class="pd-file-drop-share"><progress :value="share" max="1" :aria-label="said.sending"></progress>
        <span class="pd-note" role="status">{{ said.sending }} {{ Math.floor(100 * share) }} %</span>
        <button type="button" class="pd-button" @click="stop">{{ said.cancel }}</button></div>
      <p v-if="fault" class="pd-file-drop-fault" role="alert"><b dir="auto">{{ fault }}</b> <span v-if="hint" dir="auto">{{ hint }}</span></p>
    </div>`,
  props: ["address", "accept", "most", "said", "place", "more", "uploader"],
  data: () => ({ over: false, share: null, fault: "", hint: "" }),
  unmounted() { this.sent?.abort(); },
  methods: {
    dropped(event) { this.over = false; this.send(event.dataTransfer.files); },
    chosen(event) { this.send(event.target.files); },
    send(files) {
      this.fault = this.hint = "";
      if (this.share !== null || !files.length) return;
      if (this.uploader) return getElement(this.uploader).$refs.qRef.addFiles([...files]);
      const file = files[0];
      if (files.length > 1) return this.fail(this.said.one);
      if (!file.size) return this.fail(this.said.empty);
      if (file.size > this.most) return this.fail(this.said.large, this.said.large_hint);
      this.share = 0;
      const sent = this.sent = new XMLHttpRequest();
      sent.open("POST", `${this.address}?${new URLSearchParams({ ...this.more, name: file.name.slice(-200) })}`);
      sent.setRequestHeader("content-type", "application/octet-stream");
      sent.upload.onprogress = (event) => { if (event.lengthComputable) this.share = event.loaded / event.total; };
      sent.onload = () => {
        let answer = null;
        try { answer = JSON.parse(sent.responseText); } catch { /* said below */ }
        if (sent.status < 300 && answer) { this.$emit("sent", answer); return this.fail("", ""); }
        this.fail(answer?.error?.message ?? this.said.broken, answer?.error?.hint ?? "");
      };
      sent.onerror = () => this.fail(this.said.broken);
      sent.onabort = () => { this.share = null; };
      sent.send(file);
    },
    stop() { this.sent?.abort(); },
    fail(fault, hint) {
      this.share = null;
      this.fault = fault;
      this.hint = hint ?? "";
      if (this.$refs.input) this.$refs.input.value = "";
    },
  },
};
