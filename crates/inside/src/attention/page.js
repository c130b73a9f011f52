"use strict";
// Draws the maps, and tells the weights of the one that is enlarged.
const data = JSON.parse(document.getElementById("data").textContent);
const { side, block } = data;
const maps = data.maps.map(text => Uint8Array.from(atob(text), c => c.charCodeAt(0)));
const buttons = [...document.querySelectorAll(".maps button")];
const large = document.getElementById("large");
const canvas = document.getElementById("map");
const panel = document.getElementById("cell");
let shown = -1;
let at = [0, 0];

const colour = name => {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map(i => parseInt(text.slice(i, i + 2), 16));
};

function draw(canvas, map) {
  const [from, to] = [colour("--none"), colour("--all")];
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let y = 0, i = 0; y < side; y++) {
    for (let x = 0; x <= y; x++, i++) {
      const p = 4 * (y * side + x);
      for (let c = 0; c < 3; c++) image.data[p + c] = from[c] + (to[c] - from[c]) * map[i] / 255;
      image.data[p + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function drawAll() {
  buttons.forEach((button, i) => draw(button.querySelector("canvas"), maps[i]));
  if (shown >= 0) draw(canvas, maps[shown]);
}

const tokens = i => {
  const [first, end] = [i * block, Math.min((i + 1) * block, data.tokens.length)];
  if (end - first === 1) return `${first} ${data.tokens[first]}`;
  return `${first} to ${end - 1} (${data.tokens.slice(first, Math.min(end, first + 4)).join(" ")}${end - first > 4 ? " …" : ""})`;
};

function tell(y, x) {
  if (y < 0 || y >= side || x < 0 || x > y) return;
  at = [y, x];
  const weight = (maps[shown][y * (y + 1) / 2 + x] / 255) ** 2;
  panel.textContent = `query ${tokens(y)} to key ${tokens(x)}: weight ${weight.toPrecision(2)}`;
}

function enlarge(i) {
  shown = i;
  buttons.forEach((button, j) => button.setAttribute("aria-pressed", String(j === i)));
  document.getElementById("name").textContent = `Head ${data.names[i]}`;
  document.getElementById("scores").textContent = data.scores[i];
  large.hidden = false;
  draw(canvas, maps[i]);
  tell(...at);
  large.scrollIntoView({ block: "nearest" });
}

buttons.forEach((button, i) => button.addEventListener("click", () => enlarge(i)));
const point = event => {
  const box = canvas.getBoundingClientRect();
  tell(Math.floor((event.clientY - box.top) / box.height * side), Math.floor((event.clientX - box.left) / box.width * side));
};
canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerdown", point);
canvas.addEventListener("keydown", event => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  tell(at[0] + step[0], at[1] + step[1]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
