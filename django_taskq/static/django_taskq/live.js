/* Refreshes the live part of a page: every 2, 5, 15 or 60 seconds or not at all, not while the tab is hidden, and ever
   more rarely while the site does not answer. Without this script the pages are the same, as of when they were loaded. */

"use strict";

(() => {
  const LONGEST = 120; // seconds between two attempts when the site does not answer
  const PATIENCE = 20; // seconds for an answer
  const STORED = "django_taskq.refresh";

  const bar = document.getElementById("tq-refresh");
  const live = document.getElementById("tq-live");
  if (!bar || !live) return;
  const words = bar.dataset;
  const choice = document.getElementById("tq-every");
  const status = document.getElementById("tq-status");
  const trouble = document.getElementById("tq-trouble");

  let updated = Date.now();
  let failures = 0;
  let timer = 0;
  let busy = false;
  let over = false;

  const every = () => Number(choice.value);
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  function stored() {
    try {
      return window.localStorage.getItem(STORED);
    } catch {
      return null;
    }
  }

  function store(value) {
    try {
      window.localStorage.setItem(STORED, value);
    } catch {
      /* Nobody has to remember it. */
    }
  }

  function schedule() {
    window.clearTimeout(timer);
    if (over || document.hidden || !every()) return;
    const pause = failures ? Math.min(LONGEST, Math.max(every(), 2) * 2 ** failures) : every();
    if (failures) say(trouble, words.failed.replace("{seconds}", String(pause)));
    timer = window.setTimeout(refresh, pause * 1000);
  }

  async function refresh() {
    if (busy || over) return;
    busy = true;
    const abort = new AbortController();
    const patience = window.setTimeout(() => abort.abort(), PATIENCE * 1000);
    try {
      const headers = { [words.header]: "1" };
      const response = await fetch(window.location.href, { headers, credentials: "same-origin", signal: abort.signal });
      if (response.redirected || response.status === 401 || response.status === 403) {
        over = true;
        say(trouble, words.signedOut);
        return;
      }
      if (!response.ok) throw new Error(String(response.status));
      const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = parsed.getElementById("tq-live");
      if (!fresh) throw new Error("no live part");
      window.taskqMorph(live, fresh);
      updated = Date.now();
      failures = 0;
      say(trouble, "");
    } catch {
      failures += 1;
    } finally {
      window.clearTimeout(patience);
      busy = false;
      tell();
      schedule();
    }
  }

  function tell() {
    const seconds = Math.round((Date.now() - updated) / 1000);
    const text = seconds < 1 ? words.now : words.updated.replace("{seconds}", String(seconds));
    say(status, every() ? text : `${text} · ${words.off}`);
  }

  choice.addEventListener("change", () => {
    store(choice.value);
    failures = 0;
    tell();
    schedule();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && every() && Date.now() - updated > every() * 1000) refresh();
    else schedule();
  });
  live.addEventListener("input", (event) => {
    const form = event.target.closest("form");
    if (form) form.dataset.touched = "1";
  });

  bar.addEventListener("submit", (event) => event.preventDefault());
  if ([...choice.options].some((option) => option.value === stored())) choice.value = stored();
  bar.hidden = false;
  window.setInterval(() => document.hidden || tell(), 1000);
  tell();
  schedule();
})();
