// The page's behaviour: what is tapped goes to /sim/v1, what changed comes as server-sent events, and the parts of the
// page are fetched again as HTML.
"use strict";
(() => {
  const { page, psid, configured } = document.body.dataset;
  const $ = (id) => document.getElementById(id);

  async function ask(method, path, body) {
    const answer = await fetch("/sim/v1/" + path, {
      method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}),
    });
    const result = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(result.error || answer.statusText);
    return result;
  }
  const person = (what, body) => ask("POST", `people/${encodeURIComponent(psid)}/${what}?page_id=${encodeURIComponent(page)}`, body);

  let hide;
  function toast(text, bad) {
    const t = $("toast");
    t.textContent = text;
    t.className = "toast show" + (bad ? " bad" : "");
    clearTimeout(hide);
    hide = setTimeout(() => { t.className = "toast"; }, 4000);
  }
  const tried = (promise) => promise.catch((e) => toast(e.message, true));

  // become makes an element what a fresh one says and keeps the elements themselves: a button stays under the finger.
  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.nodeType !== Node.ELEMENT_NODE) { old.nodeValue = fresh.nodeValue; return; }
    old.asked = fresh.disabled; // of a button that is waiting for its answer: what it is to be afterwards
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "disabled" && old.waiting)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const now = [...old.childNodes], then = [...fresh.childNodes];
    then.forEach((child, i) => { if (now[i]) become(now[i], child); else old.append(child); });
    now.slice(then.length).forEach((child) => child.remove());
  }

  // merge puts new children in place and leaves those that did not change alone, so that focus, scrolling and animations stay.
  function merge(box, html) {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    const old = new Map([...box.children].map((c) => [c.dataset.key, c]));
    let added = 0;
    const next = [...fresh.children].map((child) => {
      const same = old.get(child.dataset.key), source = child.outerHTML;
      if (!same) { child.source = source; added++; return child; }
      if ((same.source ?? same.outerHTML) !== source) become(same, child);
      same.source = source;
      return same;
    });
    next.forEach((child, i) => { if (box.children[i] !== child) box.insertBefore(child, box.children[i] ?? null); });
    while (box.children.length > next.length) box.lastElementChild.remove();
    return added;
  }

  const loaders = {
    async thread() {
      const box = $("thread");
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < 120;
      const html = await part("thread");
      const added = merge(box, html);
      const about = box.querySelector("template");
      $("window").textContent = about.dataset.window;
      $("clock").textContent = about.dataset.clock;
      if (near && added) box.scrollTo({ top: box.scrollHeight, behavior: "smooth" });
      seen();
    },
    async people() { $("people").innerHTML = await part("people"); },
    async desk() { merge($("desk"), await part("desk")); },
    async log() { merge($("log"), await part("log")); },
  };
  const part = async (name) => (await fetch(`/phone/${name}?psid=${encodeURIComponent(psid)}`)).text();

  // refresh loads a part; asked again meanwhile, it loads once more when done.
  const state = {};
  async function refresh(name) {
    if (state[name]) { state[name] = "again"; return; }
    do {
      state[name] = "busy";
      try { await loaders[name](); } catch { /* the simulator stopped: the live connection comes back by itself */ }
    } while (state[name] === "again");
    state[name] = "";
  }

  let read = "";
  function seen() {
    const bubbles = document.querySelectorAll("#thread .row.from-shop");
    const last = bubbles.length ? bubbles[bubbles.length - 1].dataset.key : "";
    if (document.visibilityState !== "visible" || last === read) return;
    read = last;
    person("reads").catch(() => { read = ""; });
  }

  const acts = {
    tap: (d) => person("taps", { message_id: d.mid }),
    reply: (d) => person("messages", { text: d.text, quick_reply: d.payload }),
    postback: (d) => person("postbacks", { title: d.title, payload: d.payload }),
    stock: (d) => ask("POST", "stock", { sku: d.sku, available: Number(d.available) }),
    price: (d) => ask("POST", "price", { sku: d.sku, amount: d.amount }),
    sale: (d) => ask("POST", "sale", { sku: d.sku }),
    postpone: (d) => ask("POST", "sale", { sku: d.sku, starts_at: new Date(Date.now() + 7 * 864e5).toISOString() }),
    advance: (d) => ask("POST", "clock/advance", { by: d.by }),
    "new-person": () => newPerson(),
  };

  async function newPerson() {
    const made = await ask("POST", "people", { page_id: page, start: true });
    location.assign("/?psid=" + encodeURIComponent(made.psid));
  }

  document.addEventListener("click", (event) => {
    const what = event.target.closest("[data-do]");
    if (!what) return;
    if (what.dataset.do === "visit") {
      event.preventDefault();
      toast("The shop's page would open: " + what.href);
      return;
    }
    what.disabled = what.waiting = true;
    what.asked = false;
    const answered = () => { what.waiting = false; what.disabled = Boolean(what.asked); };
    acts[what.dataset.do](what.dataset).then(
      () => { if (what.dataset.do === "tap") refresh("thread"); else answered(); },
      (e) => { toast(e.message, true); answered(); },
    );
  });

  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("text").value.trim();
    if (!text) return;
    $("text").value = "";
    tried(person("messages", { text }));
  });

  document.addEventListener("visibilitychange", seen);

  if (configured !== "true") { toast("pages.yaml names no page yet", true); return; }
  if (!psid) { tried(newPerson()); return; }

  const live = new EventSource("/phone/live");
  live.onmessage = (event) => {
    const names = JSON.parse(event.data);
    const all = names.length === 0; // just connected: anything may have changed
    if (all || names.includes(`thread:${page}:${psid}`) || names.includes("people")) refresh("thread");
    if (all || names.includes("people")) refresh("people");
    if (all || names.includes("desk")) refresh("desk");
    if (all || names.includes("log")) refresh("log");
  };

  const box = $("thread");
  box.scrollTop = box.scrollHeight;
  if (!box.querySelector(".row")) tried(person("postbacks", { title: "Get started", payload: "GET_STARTED" }));
})();
