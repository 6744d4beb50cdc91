/* Changes one piece of the page into another with as few touches as possible, so that focus, scrolling, open details and
   a form that somebody is filling in stay as they are. The new piece is nodes that were parsed elsewhere: no text is ever
   made into HTML here. */

"use strict";

window.taskqMorph = (() => {
  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "");

  const alike = (old, fresh) =>
    old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);

  const inUse = (form) => form.contains(document.activeElement) || form.dataset.touched === "1";

  function attributes(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      const own = name === "open" && old.nodeName === "DETAILS";
      if (!own && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
  }

  /* The old node that a new one continues: the one with its key, else the next without one. */
  function partner(candidate, fresh, byKey) {
    const key = keyOf(fresh);
    if (key) {
      const known = byKey.get(key);
      byKey.delete(key);
      return known;
    }
    while (candidate && keyOf(candidate)) candidate = candidate.nextSibling;
    return candidate && alike(candidate, fresh) ? candidate : undefined;
  }

  function children(old, fresh) {
    const byKey = new Map([...old.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
    let next = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const found = partner(next, wanted, byKey);
      if (found && alike(found, wanted)) {
        if (found === next) next = next.nextSibling;
        else old.insertBefore(found, next);
        morph(found, wanted);
      } else {
        old.insertBefore(document.importNode(wanted, true), next);
      }
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  function morph(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh) || (old.nodeName === "FORM" && inUse(old))) return;
    attributes(old, fresh);
    children(old, fresh);
  }

  /* A node that changes its place loses the focus for a moment. */
  return (old, fresh) => {
    const focused = document.activeElement;
    morph(old, fresh);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  };
})();
