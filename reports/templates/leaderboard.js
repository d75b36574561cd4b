"use strict";
// Sorting by the buttons in the headings. Groups (table bodies) keep their places: what is ranked apart stays apart.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const current = heading.getAttribute("aria-sort");
      const first = heading.querySelector("button").dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = current === first ? other : first;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction);
      for (const body of table.tBodies) sortRows(body, column, direction);
      document.getElementById("sorted").textContent = `Sorted by ${heading.innerText.trim()}, ${direction}.`;
    });
  });
}

function sortRows(body, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
  const key = (row) => row.cells[column].dataset.sort;
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    // Cells without a value come last in both directions.
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const difference = Number(x) - Number(y);
    return sign * (Number.isNaN(difference) ? x.localeCompare(y) : difference);
  });
  body.append(...rows);
}

// Says of what is cut at the window's edge that there is more: phones hide the scroll bar.
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
});
for (const scroll of document.querySelectorAll(".scroll")) watch.observe(scroll);

// On paper nothing can be opened.
const closed = new Set();
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open]):not(.method)")) {
    closed.add(details);
    details.open = true;
  }
});
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  closed.clear();
});

// A link to something inside a closed part opens it.
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
window.addEventListener("hashchange", openTarget);
openTarget();
