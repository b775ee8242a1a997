/* What every page does without asking the server: keys, language, light, relative times, notices, signing in again. */
(() => {
  const keep = (name, value) => { document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=lax`; location.reload(); };
  const themes = ["system", "light", "dark"];
  const typing = (e) => e.target.closest?.("input, textarea, select, [contenteditable=true], .ag-root");

  /* Keys that are pressed while a page goes on to its next row are for that row: they wait until it is shown. */
  let held = null, patience;
  const hold = () => { held ??= []; clearTimeout(patience); patience = setTimeout(() => { held = null; }, 30_000); };
  const waits = (key) => key.length === 1 || ["Enter", "Delete", "Backspace"].includes(key);
  document.addEventListener("keydown", (event) => {
    if (!held || event.ctrlKey || event.metaKey || typing(event) || !waits(event.key)) return;
    held.push({ key: event.key, shiftKey: event.shiftKey, altKey: event.altKey, bubbles: true, cancelable: true });
    event.preventDefault();
    event.stopPropagation();
  }, true);
  document.addEventListener("click", (event) => {  // a click that comes twice counts once
    if (held && event.target.closest?.("[data-holds]")) { event.preventDefault(); event.stopPropagation(); }
  }, true);
  /* turn: of the row that is to be in the page by now, or soon: it comes by another message. */
  function settled(turn, frames = 120) {
    requestAnimationFrame(() => {
      if (turn && frames && !document.querySelector(`[data-turn="${turn}"]`)) { settled(turn, frames - 1); return; }
      const keys = held ?? [];
      held = null;
      clearTimeout(patience);
      while (keys.length && !held) (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", keys.shift()));
      held?.push(...keys);
    });
  }

  document.addEventListener("click", (event) => {
    const at = (name) => event.target.closest?.(`[data-${name}]`);
    let found;
    if (at("holds")) hold();
    if ((found = at("language"))) keep("polydetr_language", found.dataset.language);
    else if ((found = at("theme"))) keep("polydetr_theme", themes[(themes.indexOf(found.dataset.theme) + 1) % 3]);
    else if (at("help")) document.getElementById("pd-keys")?.showModal();
    else if ((found = at("close"))) found.closest("dialog")?.close();
    else if ((found = at("copy"))) copy(found);
    else if ((found = at("logout")))
      fetch(`${found.dataset.logout}/logout`, { method: "POST" }).catch(() => ({ ok: false })).then(({ ok }) => {
        if (!ok) { window.polydetr.notice(found.dataset.failed, "bad"); return; }
        for (const place of Object.keys(sessionStorage)) if (place.startsWith("polydetr.row:")) sessionStorage.removeItem(place);
        location.assign(`${found.dataset.logout}/`);  // an address of this page may hold what was asked
      });
    for (const open of document.querySelectorAll("details.pd-choose[open]")) if (!open.contains(event.target)) open.open = false;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const open of document.querySelectorAll("details.pd-choose[open]")) open.open = false;
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || document.querySelector("dialog[open], .q-dialog")) return;
    if (event.key === "?") document.getElementById("pd-keys")?.showModal();
    else if (event.key === "/") document.querySelector("[data-search], [data-search] input, [data-search] textarea")?.focus();
    else if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
    else {
      if (event.key === "Enter" && event.target.closest?.("a, summary, button:not([role=radio]):not([role=checkbox])")) return;
      const pressed = [...document.querySelectorAll("[data-key]")].find((b) => b.dataset.key === event.key && !b.disabled && b.offsetParent);
      if (!pressed) return;
      pressed.click();
    }
    event.preventDefault();
  });

  function move(step) {
    const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent);
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    rows[Math.min(Math.max(at + step, 0), rows.length - 1)]?.focus();
  }

  async function copy(button) {
    const text = button.closest("[data-copied]")?.querySelector("pre, code")?.innerText ?? button.dataset.copy;
    await navigator.clipboard?.writeText(text);
    window.polydetr.notice(button.dataset.done ?? "✓", "good");
  }

  const units = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  function times() {
    const language = document.documentElement.lang || "en", say = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime), ago = (at - Date.now()) / 1000;
      if (isNaN(ago)) continue;
      const [unit, size] = units.find(([, size]) => Math.abs(ago) >= size) ?? units[6];
      const said = say.format(Math.round(ago / size), unit);
      if (time.textContent !== said) time.textContent = said;
      time.title = at.toLocaleString(language);
    }
  }
  setInterval(times, 30000);
  let waiting = 0;
  new MutationObserver(() => { waiting ||= requestAnimationFrame(() => { waiting = 0; times(); }); }).observe(document, { childList: true, subtree: true });

  /* Chromium keeps what it drew in place of a character until the font had come: other settings make it draw anew. */
  document.fonts?.addEventListener("loadingdone", () => { document.body.style.fontFeatureSettings = '"kern" 1'; });

  window.polydetr = {
    settled,
    /* How a number is written: with so many digits, and never fewer than stand before the point. */
    figures(number, least) { return { maximumSignificantDigits: Math.min(21, Math.max(least, `${Math.trunc(Math.abs(number))}`.length)) }; },
    /* A sentence at the edge of the page, read out by screen readers, gone after a while or a click. */
    notice(words, kind) {
      let place = document.getElementById("pd-notices");
      if (!place) {
        place = Object.assign(document.createElement("div"), { id: "pd-notices" });
        place.setAttribute("role", "status");
        place.setAttribute("aria-live", "polite");
        document.body.append(place);
      }
      const one = document.createElement("div");
      one.className = `pd-notice ${kind}`;
      one.textContent = words;
      one.addEventListener("click", () => one.remove());
      setTimeout(() => one.remove(), Math.max(5000, words.length * 90));
      place.append(one);
      while (place.children.length > 4) place.firstChild.remove();
    },
    /* The session has ended while something was being done: signing in within the page loses nothing of it. */
    signIn(base) {
      if (document.getElementById("pd-sign-in")) return;
      const dialog = Object.assign(document.createElement("dialog"), { id: "pd-sign-in", className: "pd-dialog" });
      const frame = Object.assign(document.createElement("iframe"), { src: `${base}/login?inside=1` });
      frame.style = "border: 0; width: min(400px, 84vw); height: 380px; color-scheme: normal";
      frame.addEventListener("load", () => {
        frame.title = frame.contentDocument.title;
        if (frame.contentWindow.location.pathname.endsWith("/login")) return;
        window.socket.once("connect", () => dialog.remove());  // what is tried until then asks for no second one
        window.socket.disconnect().connect();  // who is signed in is read when a page connects
      });
      dialog.addEventListener("close", () => dialog.remove());  // by Esc: whatever takes signing in asks for it again
      dialog.append(frame);
      document.body.append(dialog);
      dialog.showModal();
    },
  };
})();
