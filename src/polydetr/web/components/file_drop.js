/* Files dropped or chosen, given to the uploader beside it, which sends them. */
export default {
  template: `
    <div class="pd-file-drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="give($event.dataTransfer.files)">
      <input type="file" multiple class="pd-hidden" :id="'pd-files-' + uploader" :accept="accept" @change="give($event.target.files)">
      <label class="pd-file-drop-label" :for="'pd-files-' + uploader"><span class="pd-strong">{{ title }}</span></label>
    </div>`,
  props: { title: String, accept: String, uploader: Number },
  data: () => ({ over: false }),
  methods: {
    give(files) {
      this.over = false;
      if (files.length) getElement(this.uploader).$refs.qRef.addFiles([...files]);
    },
  },
};
