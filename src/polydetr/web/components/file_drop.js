/* Files dropped or chosen, given to the uploader beside it, which sends them. */
export default {
  template: `
    <div class="pd-files" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="give($event.dataTransfer.files)">
      <label>{{ title }}<input type="file" multiple :accept="accept" @change="give($event.target.files)"></label>
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
