/* The search of these pages runs in a Worker, and browsers start none for a page that was opened as a file. Here an invisible
   frame takes its place, with the three things that the search script asks of a worker. On http and https nothing is changed.
   The name IFrameWorker is what the theme's search script looks for, to find its language files. */
(() => {
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inside = this.frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source === inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      this.ready = new Promise((started) => {
        const page = inside.document;
        page.open();
        page.write(`<body><script>
          postMessage = (data) => parent.postMessage(data, "*");
          importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((loaded, failed) => {
            const script = Object.assign(document.createElement("script"), { src: url, onload: loaded, onerror: failed });
            document.body.appendChild(script);
          })), Promise.resolve());
        <\/script><script src="${url}"><\/script></body>`);
        page.close();
        inside.addEventListener("load", started);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = window.Worker = IFrameWorker;
})();
