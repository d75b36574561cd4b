"use strict";
// Large where there are many methods and domains: read when first asked for.
let parsed;
const views = () => (parsed ??= JSON.parse(document.getElementById("views").textContent));
const table = document.querySelector("table.ranking");
const headings = [...table.tHead.rows[0].cells];
const rows = [...table.querySelectorAll("tr[data-method]")];
const controls = document.getElementById("controls");
const status = document.getElementById("sorted");
const viewNote = document.getElementById("view-note");

// Sorting by the buttons in the headings. Groups (table bodies) keep their places: what is ranked apart stays apart.
headings.forEach((heading, column) => {
  heading.querySelector("button").addEventListener("click", () => {
    const first = heading.querySelector("button").dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    sortBy(column, heading.getAttribute("aria-sort") === first ? other : first);
    status.textContent = `Sorted by ${heading.innerText.trim()}, ${heading.getAttribute("aria-sort")}.`;
  });
});

function sortBy(column, direction) {
  headings.forEach((each) => each.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", direction);
  for (const body of table.tBodies) sortRows(body, column, direction);
}

function sortRows(body, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const sorted = [...body.rows].filter((row) => !row.classList.contains("group"));
  const key = (row) => row.cells[column].dataset.sort;
  sorted.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    // Cells without a value come last in both directions.
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const difference = Number(x) - Number(y);
    return sign * (Number.isNaN(difference) ? x.localeCompare(y) : difference);
  });
  body.append(...sorted);
}

// Ranking by another metric or over fewer domains: all numbers were worked out when the report was made.
const columnOf = (name) => headings.findIndex((heading) => heading.classList.contains(`c-${name}`));
const [rankColumn, diceColumn] = [columnOf("rank"), columnOf("dice")];
const diceWords = headings[diceColumn].querySelector(".words");
const diceButton = headings[diceColumn].querySelector("button");
const original = {
  title: diceWords.textContent,
  definition: diceButton.title,
  cells: rows.map((row) => [rankColumn, diceColumn].map((column) => row.cells[column].cloneNode(true))),
};

function show(metricIndex, scopeIndex) {
  const metric = views().metrics[metricIndex];
  const scope = views().scopes[scopeIndex];
  const overall = metricIndex === 0 && scopeIndex === 0;
  table.classList.toggle("narrowed", !overall);
  viewNote.hidden = overall;
  viewNote.textContent = `${metric.title} over ${scopeIndex === 0 ? "all domains" : scope.title}, with 95 % intervals and ranks of its own. Columns that are over all domains are hidden.`;
  diceWords.textContent = overall ? original.title : metric.title;
  diceButton.title = overall ? original.definition : viewNote.textContent;
  diceButton.dataset.first = metric.better === "higher" ? "descending" : "ascending";
  rows.forEach((row, index) => {
    const found = views().values[metricIndex]?.[scopeIndex]?.[Number(row.dataset.method)];
    [rankColumn, diceColumn].forEach((column, place) => {
      const cell = row.cells[column];
      if (overall) {
        cell.replaceChildren(...original.cells[index][place].cloneNode(true).childNodes);
        setSort(cell, original.cells[index][place].dataset.sort);
      } else if (place === 0) {
        cell.replaceChildren(words("main", found?.[3] ?? "—"));
        setSort(cell, found?.[3]?.split("–")[0]);
      } else {
        cell.replaceChildren(words("main", found ? decimals(found[0], metric.digits) : "no mean"));
        if (found && found[1] !== null) {
          const ends = [found[1], found[2]].map((value) => decimals(value, metric.digits)).join(", ");
          cell.append(" ", words("detail", `[${ends}]`));
        }
        setSort(cell, found?.[0]);
      }
    });
  });
  sortBy(overall ? rankColumn : diceColumn, overall ? "ascending" : diceButton.dataset.first);
}

function setSort(cell, value) {
  if (value === undefined) delete cell.dataset.sort;
  else cell.dataset.sort = value;
}

function words(kind, text) {
  const element = document.createElement("bdi");
  element.className = kind;
  element.textContent = text;
  return element;
}

function decimals(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

// Filters hide rows; ranks stay those among all methods of the group.
function filter() {
  const wanted = controls.elements.find.value.trim().toLocaleLowerCase();
  const filters = [...controls.querySelectorAll("[data-filter]")].filter((select) => select.value);
  for (const row of rows) {
    const fits = filters.every((select) =>
      select.name === "machines"
        ? row.dataset.machines.split(" ").includes(select.value)
        : row.dataset[select.name] === select.value,
    );
    row.hidden = !fits || !row.cells[columnOf("title")].textContent.toLocaleLowerCase().includes(wanted);
  }
  for (const body of table.tBodies) body.hidden = ![...body.rows].some((row) => row.dataset.method && !row.hidden);
  const machine = controls.elements.machines?.value;
  headings.forEach((heading, column) => {
    const found = heading.className.match(/\bc-throughput_(\d+)/);
    if (!found) return;
    const hide = Boolean(machine) && found[1] !== machine;
    for (const line of [heading.parentElement, ...rows]) line.cells[column].hidden = hide;
  });
  return rows.filter((row) => !row.hidden).length;
}

const shownView = { metric: 0, scope: 0 };
function apply() {
  const metric = Number(controls.elements.metric.value);
  const scope = Number(controls.elements.scope?.value ?? 0);
  if (metric !== shownView.metric || scope !== shownView.scope) show(metric, scope);
  Object.assign(shownView, { metric, scope });
  const all = controls.elements.all?.checked ?? true;
  table.classList.toggle("brief", !all);
  table.closest(".summary").classList.toggle("spread", all);
  const count = filter();
  const chosen = [controls.elements.metric, controls.elements.scope].map((select) => select?.selectedOptions[0].text);
  status.textContent = `${count} of ${rows.length} methods shown, by ${chosen.filter(Boolean).join(", ")}.`;
}
controls.hidden = false;
controls.addEventListener("input", apply);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("reset", () => setTimeout(apply));
apply();
// A reloaded page keeps what was chosen in its controls.
window.addEventListener("pageshow", apply);

document.addEventListener("change", ({ target }) => {
  if (target.dataset.hides) document.body.classList.toggle(target.dataset.hides, !target.checked);
});
