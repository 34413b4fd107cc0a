"use strict";
// Shows only the cells that match all three fields. It reads the page and never makes markup.
const form = document.getElementById("filter");
const cells = Array.from(document.querySelectorAll("details.cell"), (cell) => ({
  cell,
  text: cell.textContent.toLowerCase(),
}));
const apply = () => {
  const text = form.elements.text.value.toLowerCase();
  const result = form.elements.result.value;
  const topic = form.elements.topic.value;
  let shown = 0;
  for (const entry of cells) {
    const { dataset } = entry.cell;
    const match =
      (!result || dataset.result === result) && (!topic || dataset.topic === topic) && entry.text.includes(text);
    entry.cell.hidden = !match;
    shown += match;
  }
  form.elements.shown.value = `${shown} of ${cells.length}`;
};
form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
apply();
