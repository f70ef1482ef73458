"use strict";
// A page opened from a file may not fetch others: search results go without excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// The open tab of a set may be there for want of the one chosen: a click chooses it.
document.addEventListener("click", (event) => {
  const input = event.target.closest?.(".sd-tab-label")?.previousElementSibling;
  if (input?.checked) input.dispatchEvent(new Event("change", { bubbles: true }));
});

// Tab sets of different heights switch together: keep the one in use where it is.
document.addEventListener("DOMContentLoaded", () => {
  // A link chose the framework; from here on the reader does, also after a reload.
  if (location.search.includes("framework=")) {
    history.replaceState(null, "", location.pathname + location.hash);
  }
  for (const tabs of document.querySelectorAll(".sd-tab-set")) {
    let before = 0;
    tabs.addEventListener("click", () => (before = tabs.getBoundingClientRect().top), true);
    tabs.addEventListener("change", () => {
      scrollBy({ top: tabs.getBoundingClientRect().top - before, behavior: "instant" });
    });
  }
});
