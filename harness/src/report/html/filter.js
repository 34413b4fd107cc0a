"use strict";
// Shows only the cells that match every field. The state is the address's fragment, so that it can be
// bookmarked and sent. It reads the page and never makes markup.
const form = document.getElementById("filter");
const { text, covers, fold, shown } = form.elements;
const selects = Array.from(form.querySelectorAll("select"));
const squares = new Map();
for (const square of document.querySelectorAll(".squares a")) {
  const target = square.hash.slice(1);
  squares.set(target, [...(squares.get(target) ?? []), square]);
}
const lines = (value) => new Set((value ?? "").split("\n"));
const cells = Array.from(document.querySelectorAll("details.cell"), (cell) => ({
  cell,
  id: cell.querySelector(".target").id,
  data: Object.fromEntries([...selects.map((select) => select.name), "covers"].map((name) => [name, lines(cell.dataset[name])])),
  // Only a search needs it, and only the first pays for it.
  get text() {
    const value = cell.textContent.toLowerCase();
    Object.defineProperty(this, "text", { value });
    return value;
  },
}));

const show = () => {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = selects.filter((select) => select.value).map((select) => [select.name, select.value]);
  if (covers.value) wanted.push(["covers", covers.value]);
  covers.hidden = !covers.value;
  covers.textContent = `${covers.value} ×`;
  let count = 0;
  for (const entry of cells) {
    const match =
      wanted.every(([name, value]) => entry.data[name].has(value)) && words.every((word) => entry.text.includes(word));
    entry.cell.hidden = !match;
    for (const square of squares.get(entry.id) ?? []) square.classList.toggle("out", !match);
    count += match;
  }
  shown.value = `${count} of ${cells.length}`;
};

// The fields and the fragment.
const fields = [text, covers, ...selects];
const remember = () => {
  const state = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
  history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
};
const recall = () => {
  const fragment = location.hash.slice(1);
  if (fragment.includes("=")) {
    const state = new URLSearchParams(fragment);
    for (const field of fields) field.value = state.get(field.name) ?? "";
    show();
    if (state.has("covers")) form.scrollIntoView();
    return;
  }
  // A link to one cell shows it, whatever the filter says.
  const target = cells.find((entry) => entry.id === fragment);
  if (target?.cell.hidden) {
    form.reset();
    covers.value = "";
    show();
  }
  if (target) {
    target.cell.open = true;
    target.cell.scrollIntoView();
    target.cell.querySelector("summary").focus({ preventScroll: true });
  }
};
const changed = () => {
  show();
  remember();
};
let waiting;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(changed, 60);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  covers.value = "";
  setTimeout(changed);
});
covers.addEventListener("click", () => {
  covers.value = "";
  changed();
});
fold.addEventListener("click", () => {
  const visible = cells.map((entry) => entry.cell).filter((cell) => !cell.hidden);
  const open = visible.some((cell) => !cell.open);
  for (const cell of visible) cell.open = open;
  fold.textContent = open ? "fold" : "unfold";
});
window.addEventListener("hashchange", recall);

const step = (direction) => {
  const heads = cells.filter((entry) => !entry.cell.hidden).map((entry) => entry.cell.firstElementChild);
  const at = heads.indexOf(document.activeElement);
  const next = heads[at === -1 ? 0 : Math.min(Math.max(at + direction, 0), heads.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape") form.reset();
  else if (typing) return;
  else if (event.key === "/") text.select();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else return;
  event.preventDefault();
});
form.hidden = false;
show();
recall();
