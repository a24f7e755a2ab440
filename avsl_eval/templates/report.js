// The page is whole without this script. It sorts and filters tables and the gallery.
// Texts of the page come from files of other people: they are only ever read and set as text, never as HTML.
"use strict";

// ---- Tables -------------------------------------------------------------------------------------------------

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** What a cell sorts by: the number in data-v, else its text. An empty data-v of a value means "none". */
function sortKey(cell) {
  const value = cell.dataset.v;
  if (cell.matches("td") && value === "") return null;
  if (value !== undefined && value !== "") return Number(value);
  return cell.textContent.trim();
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
}

/** Sort the rows of a table's first body; rows without a value stay last in either direction. */
function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, key: sortKey(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return descending ? compare(b.key, a.key) : compare(a.key, b.key);
  });
  body.append(...rows.map(({ row }) => row));
  table.querySelectorAll("thead th").forEach((head, k) => {
    if (k === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Numbers begin with the largest, texts with the first.
      const cells = Array.from(table.tBodies[0].rows, (row) => row.cells[column]);
      const numeric = cells.some((cell) => cell.matches("td") && cell.dataset.v);
      sortTable(table, column, before ? before === "ascending" : numeric);
    });
  });
}

function makeFilter(input) {
  const table = document.getElementById(input.dataset.filter);
  const rows = Array.from(table.tBodies[0].rows);
  const output = input.closest(".controls").querySelector("output");
  const apply = () => {
    const wanted = input.value.trim().toLocaleLowerCase();
    let shown = 0;
    for (const row of rows) {
      // The first cell names the row; the others hold numbers that nobody searches for.
      const text = Array.from(row.cells, (cell) => (cell.matches("th") || !cell.dataset.v ? cell.textContent : ""));
      row.hidden = !text.join(" ").toLocaleLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    output.textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", apply);
  apply();
}

// ---- Gallery ------------------------------------------------------------------------------------------------

/** Fill a choice with the values that the clips have, each with their number. */
function fillChoice(select, clips) {
  const counts = new Map();
  for (const clip of clips) {
    const value = clip.dataset[select.name];
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const values = Array.from(counts.keys());
  if (select.name === "label") values.sort(collator.compare);
  for (const value of values) select.add(new Option(`${value || "(none)"} (${counts.get(value)})`, `=${value}`));
  select.closest("label").hidden = values.length < 2;
}

function makeGallery(gallery) {
  const list = gallery.querySelector(".clips");
  const clips = Array.from(list.children);
  const form = gallery.querySelector("form");
  const output = form.querySelector("output");
  const choices = Array.from(form.querySelectorAll("select[data-choice]"));
  choices.forEach((select) => fillChoice(select, clips));

  const order = (clip, key) => (clip.dataset[key] === "" ? null : Number(clip.dataset[key]));
  const apply = () => {
    let shown = 0;
    for (const clip of clips) {
      clip.hidden = choices.some((select) => select.value && select.value !== `=${clip.dataset[select.name]}`);
      shown += clip.hidden ? 0 : 1;
    }
    const [key, direction] = form.elements.order.value.split(" ");
    const sorted = clips.slice().sort((a, b) => {
      const [x, y] = [order(a, key), order(b, key)];
      if (x === null || y === null) return (x === null) - (y === null);
      return direction === "down" ? y - x : x - y;
    });
    list.append(...sorted);
    output.textContent = `${shown} of ${clips.length} clips`;
    for (const box of form.querySelectorAll("input[data-layer]")) {
      list.classList.toggle(`no-${box.dataset.layer}`, !box.checked);
    }
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// ---- Start --------------------------------------------------------------------------------------------------

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("input[data-filter]").forEach(makeFilter);
document.querySelectorAll("section.gallery").forEach(makeGallery);
document.querySelectorAll(".controls[hidden]").forEach((controls) => { controls.hidden = false; });

// Paper cannot be unfolded.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = Array.from(document.querySelectorAll("details:not([open])"));
  unfolded.forEach((fold) => { fold.open = true; });
});
addEventListener("afterprint", () => unfolded.forEach((fold) => { fold.open = false; }));
