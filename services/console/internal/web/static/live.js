// Puts each section in its place as the console sends it: HTML that the console has escaped.
"use strict";

const state = document.getElementById("state");
const say = (text, ok) => {
  state.textContent = text;
  state.className = ok ? "ok" : "lost";
};

const source = new EventSource("/live");
source.onopen = () => say("live", true);
source.onerror = () => {
  say("reconnecting", false);
  // The door closed (the token was taken away), or a proxy gave up: the page itself says more.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
};
for (const place of document.querySelectorAll("[data-live]")) {
  source.addEventListener(place.id, (event) => {
    // The reader's place in a long table is kept.
    const before = place.querySelector(".tall")?.scrollTop;
    place.innerHTML = event.data;
    const table = place.querySelector(".tall");
    if (table && before) table.scrollTop = before;
  });
}
