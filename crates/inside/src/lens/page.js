"use strict";
// Tells the numbers of the cell that is pointed at or walked to.
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("cell");
const rows = [...document.querySelectorAll(".lens tbody tr")].map(row => [...row.querySelectorAll("td")]);
const name = id => data.tokens[id];
const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
let at = null;

function tell(y, x) {
  const [top, next, entropy, kl] = data.cells[y][x];
  const depth = data.depths[y] === "embed" ? "before the first block" : `after block ${data.depths[y]}`;
  let line = `${depth}, token ${x} ${name(data.ids[x])}`;
  if (next) line += `; next ${name(data.ids[x + 1])}: rank ${next[0]}, log-likelihood ${next[1]}`;
  line += `; entropy ${entropy}, divergence ${kl} nats`;
  const list = document.createElement("ol");
  for (const [id, likelihood] of top) {
    const item = element("li", `${name(id)} `);
    item.append(element("span", `${(100 * Math.exp(likelihood)).toPrecision(3)} %`));
    list.append(item);
  }
  panel.replaceChildren(element("div", line), list);
  if (at) at.classList.remove("at");
  at = rows[y][x];
  at.classList.add("at");
}

const place = cell => {
  const y = rows.findIndex(row => row[0] && row[0].parentNode === cell.parentNode);
  return [y, rows[y].indexOf(cell)];
};

const table = document.querySelector(".lens table");
let focused = rows[0] && rows[0][0];
if (focused) focused.tabIndex = 0;
table.addEventListener("mouseover", event => {
  const cell = event.target.closest("td");
  if (cell) tell(...place(cell));
});
table.addEventListener("focusin", event => {
  const cell = event.target.closest("td");
  if (cell) tell(...place(cell));
});
table.addEventListener("click", event => {
  const cell = event.target.closest("td");
  if (cell) go(...place(cell));
});
table.addEventListener("keydown", event => {
  const cell = event.target.closest("td");
  if (!cell || event.ctrlKey || event.altKey || event.metaKey) return;
  const [y, x] = place(cell);
  const last = rows[y].length - 1;
  const to = {
    ArrowLeft: [y, x - 1], ArrowRight: [y, x + 1], ArrowUp: [y - 1, x], ArrowDown: [y + 1, x],
    Home: [y, 0], End: [y, last], PageUp: [0, x], PageDown: [rows.length - 1, x],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  go(...to);
});

function go(y, x) {
  const cell = rows[y] && rows[y][x];
  if (!cell) return;
  focused.tabIndex = -1;
  focused = cell;
  focused.tabIndex = 0;
  focused.focus({ preventScroll: false });
}
