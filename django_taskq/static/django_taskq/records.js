/* What the pages of records do with JavaScript; without it there is a button for each.

   A page that works through many dead letters holds the form for its next slice: it is submitted as soon as it is there.
   A slice that is sent twice does nothing twice, so after an error it is sent again. */

"use strict";

(() => {
  const PATIENCE = [1000, 2000, 5000, 10000, 15000]; // ms before each repetition

  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  async function slice(run) {
    const response = await fetch(location.href, {
      method: "POST",
      body: new FormData(run.querySelector("form")),
      headers: { "X-Taskq-Fragment": "1" },
      credentials: "same-origin",
    });
    if (!response.ok) throw new Error(response.status);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById("tq-run");
    if (!next) throw new Error("not the page that was expected");
    return document.adoptNode(next);
  }

  async function carryOn(run) {
    let failures = 0;
    while (run.isConnected && "tqContinue" in run.dataset) {
      try {
        const next = await slice(run);
        const bar = run.querySelector("progress");
        const value = next.querySelector("progress").value;
        // The same bar moves on, so that it is not announced as a new one; focus on "Stop" stays where it is.
        const focused = run.contains(document.activeElement) && document.activeElement.tagName;
        next.querySelector("progress").replaceWith(bar);
        bar.value = value;
        run.replaceWith(next);
        if (focused) (next.querySelector(focused.toLowerCase()) || next.querySelector("a")).focus();
        run = next;
        failures = 0;
      } catch (error) {
        if (failures === PATIENCE.length) return; // the button is still there
        await wait(PATIENCE[failures]);
        failures += 1;
      }
    }
  }

  /* Copies the text of an element that a button names. */
  async function copy(button) {
    const text = document.getElementById(button.dataset.tqCopy).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) {
      const range = document.createRange(); // no clipboard without https: select it, the reader presses the keys
      range.selectNodeContents(document.getElementById(button.dataset.tqCopy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return;
    }
    const said = document.getElementById(button.dataset.tqSays);
    said.hidden = false;
    await wait(2000);
    said.hidden = true;
  }

  function start() {
    const run = document.getElementById("tq-run");
    if (run) carryOn(run);
    for (const button of document.querySelectorAll("[data-tq-copy]")) {
      button.hidden = false;
      button.addEventListener("click", () => copy(button));
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
