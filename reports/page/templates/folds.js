// Folded sections: plain `details`, which this fills (of a large page), opens by address, remembers and prints.
const sections = [...document.querySelectorAll("details.fold")];
const openAll = document.getElementById("open-all");

// Says of what is cut at the window's edge that there is more: phones hide the scroll bar. Only what scrolls takes a Tab.
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const wide = target.scrollWidth > target.clientWidth + 1;
    target.classList.toggle("wide", wide);
    if (wide || target.scrollHeight > target.clientHeight + 1) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

function prepare(holder) {
  for (const scroll of holder.querySelectorAll(".scroll")) watch.observe(scroll);
  for (const switches of holder.querySelectorAll(".switches")) switches.hidden = false;
  if (holder.querySelector("#compare")) startComparing();
}

// A section of a large page is text until it is opened: the markup that a browser without scripts would show.
function fill(details) {
  const text = details.querySelector(":scope > noscript");
  if (!text) return;
  const holder = document.createElement("template");
  holder.innerHTML = text.textContent;
  text.replaceWith(holder.content);
  prepare(details);
}

function find(id) {
  const found = id && document.getElementById(id);
  if (found) return found;
  // Perhaps in a section that is still text.
  const section = id && sections.find((each) => each.querySelector(":scope > noscript")?.textContent.includes(` id="${id}"`));
  if (!section) return null;
  fill(section);
  return document.getElementById(id);
}

// Storage may be switched off, full, or hold anything: then nothing is remembered.
const shelf = `delightsam-bench ${location.pathname}`;
const keyOf = (details) => details.id || details.querySelector("summary > h2")?.id.replace(/-title$/, "");
function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(shelf));
    return Array.isArray(kept) ? kept.filter((key) => typeof key === "string") : null;
  } catch {
    return null;
  }
}
function remember() {
  if (onPaper) return;
  const open = [...document.querySelectorAll("main details[open]")].map(keyOf).filter(Boolean);
  try {
    localStorage.setItem(shelf, JSON.stringify(open));
  } catch {
    // Not remembered.
  }
  const all = sections.every((each) => each.open);
  openAll.setAttribute("aria-pressed", String(all));
  openAll.textContent = all ? "Close all" : "Open all";
}

let onPaper = false;
const kept = recall();
if (kept) {
  // What is open at first and was closed.
  for (const details of document.querySelectorAll("main details[open]")) {
    const key = keyOf(details);
    if (key && !kept.includes(key)) details.open = false;
  }
}
for (const key of kept ?? []) {
  const section = sections.find((each) => keyOf(each) === key);
  const details = section ?? find(key);
  if (section) fill(section);
  if (details instanceof HTMLDetailsElement) details.open = true;
}
// `toggle` does not bubble. A click comes before it: what opens is filled before it is painted.
document.addEventListener("click", ({ target }) => {
  const details = target.closest?.("summary")?.parentElement;
  if (details?.matches("details.fold")) fill(details);
});
document.addEventListener("toggle", ({ target }) => {
  if (target.open && target.matches("details.fold")) fill(target);
  remember();
}, true);
openAll.hidden = false;
openAll.addEventListener("click", () => {
  const open = !sections.every((each) => each.open);
  for (const section of sections) {
    if (open) fill(section);
    section.open = open;
  }
});
prepare(document);

// A link to something closed, or inside something closed, opens it and all around it.
function openTarget(hash) {
  let id = hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {
    // Not an address of ours.
  }
  const target = find(id);
  if (!target) return;
  let closed = false;
  for (let details = target.closest("details"); details; details = details.parentElement.closest("details")) {
    closed ||= !details.open;
    details.open = true;
  }
  if (closed) (target.matches(".inside") ? target.closest("details") : target).scrollIntoView();
}
window.addEventListener("hashchange", () => openTarget(location.hash));
document.addEventListener("click", ({ target }) => {
  const link = target.closest?.("a[href^='#']");
  // Also of a link to where one is already, which changes no address. After the browser's own jump.
  if (link) setTimeout(() => openTarget(link.getAttribute("href")));
});
openTarget(location.hash);
remember();

// On paper nothing can be opened. The pages of single methods and domains are printed where they are few.
const FEW = 20;
const closed = new Set();
function unfold() {
  onPaper = true;
  sections.forEach(fill);
  const many = document.querySelectorAll("details.page").length > 2 * FEW;
  for (const details of document.querySelectorAll(`main details:not([open])${many ? ":not(.page, .method)" : ""}`)) {
    closed.add(details);
    details.open = true;
  }
}
window.addEventListener("beforeprint", unfold);
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  closed.clear();
  // Their `toggle` events are still to come.
  setTimeout(() => { onPaper = false; });
});
