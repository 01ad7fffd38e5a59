"use strict";

// Asks every second for the part of the page that changes, as long as something may still happen.
const PAUSE = 1000;

function isActive(box) {
  return box.firstElementChild?.dataset.active === "yes";
}

// Only the news is read aloud, not the whole page again.
function say(box) {
  const place = document.getElementById(box.dataset.says ?? "");
  const news = box.firstElementChild?.dataset.said ?? "";
  if (place && place.textContent !== news) place.textContent = news;
}

function watch(box) {
  let shown = "";

  async function refresh() {
    if (!document.hidden) {
      try {
        const answer = await fetch(box.dataset.liveUrl);
        const text = await answer.text();
        if (answer.ok && text !== shown) {
          shown = text;
          box.innerHTML = text;
          say(box);
        }
      } catch {
        // The server is away for a moment; the next turn asks again.
      }
    }
    if (isActive(box)) setTimeout(refresh, PAUSE);
  }

  if (isActive(box)) setTimeout(refresh, PAUSE);
}

for (const box of document.querySelectorAll("[data-live-url]")) watch(box);
