"use strict";
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const sprite = at("sprite"), map = at("map"), pen = map.getContext("2d"), tip = at("tip");
const HUES = ["blue", "vermilion", "teal", "purple", "ochre", "brown", "ink"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const MARGIN = 18, RADIUS = 4, REACH = 14, PICTURE = 26, CLOSEST = 40;
const view = { places: null, spans: [1, 1], scale: 1, x: 0, y: 0, chosen: -1, hovered: -1, only: -1 };
let colours = {};

// An image in words: the class, and what is to be known besides.
const classOf = (image) => (data.images[image].label < 0 ? "" : data.classes[data.images[image].label]);
const words = (image) => [data.images[image].name, classOf(image), data.images[image].split].filter(Boolean).join(", ");

// A name without its folders, where there is little room; the whole one is in the title.
const short = (image) => data.images[image].name.replace(/^.*\//, "");

function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

// Half a pixel inside its cell, so that no neighbour in the sheet shows at its edges.
function cell(image) {
  const [column, row] = [image % data.columns, Math.floor(image / data.columns)];
  return [column * data.side + 0.5, row * data.side + 0.5, data.side - 1, data.side - 1];
}

function picture(image, size) {
  const canvas = element("canvas", undefined, "picture");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(size * ratio);
  canvas.style.width = canvas.style.height = `${size}px`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words(image));
  const brush = canvas.getContext("2d");
  brush.imageSmoothingQuality = "high";
  brush.drawImage(sprite, ...cell(image), 0, 0, canvas.width, canvas.height);
  return canvas;
}

function shape(brush, kind, x, y, r) {
  brush.beginPath();
  if (kind === "circle") brush.arc(x, y, r, 0, 2 * Math.PI);
  else if (kind === "square") brush.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else {
    const corners = {
      triangle: [[0, -1.2], [1.15, 0.85], [-1.15, 0.85]],
      diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
      cross: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2],
        [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
    }[kind];
    corners.forEach(([dx, dy], index) => brush[index ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    brush.closePath();
  }
}

function mark(brush, label, x, y, r) {
  const number = Math.max(label, 0);
  shape(brush, SHAPES[Math.floor(number / HUES.length) % SHAPES.length], x, y, r);
  brush.fillStyle = colours[HUES[number % HUES.length]];
  brush.fill();
  brush.strokeStyle = colours.paper;
  brush.lineWidth = 0.8;
  brush.stroke();
}

// CSS pixels per unit of the map: as many as let the whole map fit, times the zoom.
function extent() {
  const [across, down] = view.spans;
  return Math.min((map.clientWidth - 2 * MARGIN) / across, (map.clientHeight - 2 * MARGIN) / down) * view.scale;
}

// Where an image lies on the canvas, in CSS pixels.
function place(image) {
  const [x, y] = view.places[image], unit = extent();
  return [map.clientWidth / 2 + (x - 0.5 - view.x) * unit, map.clientHeight / 2 + (y - 0.5 - view.y) * unit];
}

function draw() {
  const ratio = window.devicePixelRatio || 1, width = map.clientWidth, height = map.clientHeight;
  map.width = Math.round(width * ratio);
  map.height = Math.round(height * ratio);
  pen.scale(ratio, ratio);
  pen.imageSmoothingQuality = "high";
  const asPictures = at("pictures").checked;
  const near = view.chosen < 0 ? [] : data.neighbours[view.chosen];
  const size = PICTURE * Math.min(Math.sqrt(view.scale), 2.4);
  let drawn = 0;
  const one = (image, larger) => {
    const [x, y] = place(image);
    if (x < -size || y < -size || x > width + size || y > height + size) return;
    drawn += 1;
    if (asPictures) pen.drawImage(sprite, ...cell(image), x - (size * larger) / 2, y - (size * larger) / 2, size * larger, size * larger);
    else mark(pen, data.images[image].label, x, y, RADIUS * larger * Math.min(Math.sqrt(view.scale), 1.8));
  };
  const ring = (image, colour, thick) => {
    const [x, y] = place(image), half = asPictures ? (size * 1.25) / 2 + 1 : RADIUS * 2.1;
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.beginPath();
    if (asPictures) pen.rect(x - half, y - half, 2 * half, 2 * half);
    else pen.arc(x, y, half, 0, 2 * Math.PI);
    pen.stroke();
  };
  data.images.forEach((image, index) => {
    pen.globalAlpha = view.only < 0 || image.label === view.only ? 1 : 0.12;
    one(index, 1);
  });
  pen.globalAlpha = 1;
  for (const other of near) { one(other, 1.25); ring(other, colours.muted, 1.5); }
  if (view.chosen >= 0) { one(view.chosen, 1.25); ring(view.chosen, colours.ink, 3); }
  map.dataset.drawn = drawn;
}

function found(x, y) {
  const half = at("pictures").checked ? (PICTURE * Math.min(Math.sqrt(view.scale), 2.4)) / 2 : REACH;
  let best = -1, least = Infinity;
  data.images.forEach((image, index) => {
    if (view.only >= 0 && image.label !== view.only) return;
    const [left, top] = place(index), distance = Math.hypot(left - x, top - y);
    if (distance <= half * 1.2 && distance < least) [best, least] = [index, distance];
  });
  return best;
}

function point(image) {
  view.hovered = image;
  tip.hidden = image < 0;
  map.style.cursor = image < 0 ? "crosshair" : "pointer";
  if (image < 0) return;
  const text = element("div", data.images[image].name);
  if (classOf(image)) text.append(element("br"), element("span", classOf(image)));
  tip.replaceChildren(picture(image, 64), text);
  const [x, y] = place(image), room = map.parentElement;
  tip.style.left = `${Math.max(0, Math.min(x + 12, room.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${y + 14 + tip.offsetHeight > room.clientHeight ? Math.max(0, y - 14 - tip.offsetHeight) : y + 14}px`;
}

function button(image, strong, weak, size) {
  const made = element("button");
  made.type = "button";
  made.dataset.image = image;
  made.title = words(image);
  made.append(picture(image, size));
  if (strong) made.append(element("strong", strong));
  for (const one of weak.filter(Boolean)) made.append(element("span", one));
  made.addEventListener("click", () => {
    choose(image);
    at("chosen").scrollIntoView({ block: "nearest" });
  });
  return made;
}

function item(...content) {
  const made = element("li");
  made.append(...content);
  return made;
}

function choose(image) {
  view.chosen = image;
  at("hint").hidden = image >= 0;
  at("one").hidden = at("near-title").hidden = image < 0;
  if (image < 0) at("near").replaceChildren();
  else {
    at("portrait").replaceChildren(picture(image, 112));
    at("name").textContent = data.images[image].name;
    at("what").textContent = [classOf(image) && `class ${classOf(image)}`, data.images[image].split].filter(Boolean).join(", ");
    // The list is built anew: who chose a neighbour by the keyboard goes on from its first one.
    const within = at("near").contains(document.activeElement);
    at("near").replaceChildren(...data.neighbours[image].map((other, index) =>
      item(button(other, data.cosines[image][index], [classOf(other) || short(other)], 64))));
    if (within) at("near").querySelector("button")?.focus();
    at("near-title").hidden = !data.neighbours[image].length;
  }
  draw();
}

// The nearest image in a direction, those straight ahead before those aside; chosen, and brought into sight.
function go(dx, dy) {
  if (view.chosen < 0) return choose(0);
  const [x, y] = place(view.chosen);
  let best = -1, least = Infinity;
  data.images.forEach((image, index) => {
    if (index === view.chosen || (view.only >= 0 && image.label !== view.only)) return;
    const [left, top] = place(index), ahead = (left - x) * dx + (top - y) * dy;
    const aside = Math.abs((left - x) * dy) + Math.abs((top - y) * dx), cost = ahead + 2 * aside;
    if (ahead > 0.01 && aside <= 2 * ahead && cost < least) [best, least] = [index, cost];
  });
  if (best < 0) return;
  choose(best);
  const [left, top] = place(best);
  if (left < 0 || top < 0 || left > map.clientWidth || top > map.clientHeight) centre(best);
}

function centre(image) {
  const [x, y] = place(image);
  view.x += (x - map.clientWidth / 2) / extent();
  view.y += (y - map.clientHeight / 2) / extent();
  draw();
}

function zoom(factor) {
  view.scale = Math.max(1, Math.min(CLOSEST, view.scale * factor));
  if (view.scale === 1) view.x = view.y = 0;
  map.style.touchAction = view.scale > 1 ? "none" : "pan-y";
  point(-1);
  if (view.chosen >= 0 && factor > 1) centre(view.chosen);
  else draw();
}

function lay(projection) {
  view.places = data.maps[projection];
  // Centred on 0.5; a map of one point has no size.
  view.spans = [0, 1].map((axis) => Math.max(...view.places.map((one) => 2 * Math.abs(one[axis] - 0.5)), 0.01));
}

function legend() {
  const counts = data.classes.map((_, label) => data.images.filter((image) => image.label === label).length);
  const buttons = data.classes.map((name, label) => {
    const made = element("button"), ratio = window.devicePixelRatio || 1, swatch = element("canvas");
    swatch.width = swatch.height = 16 * ratio;
    swatch.style.width = swatch.style.height = "16px";
    made.type = "button";
    made.setAttribute("aria-pressed", "false");
    made.append(swatch, element("span", `${name} (${counts[label]})`));
    made.addEventListener("click", () => {
      view.only = view.only === label ? -1 : label;
      buttons.forEach((other, index) => other.setAttribute("aria-pressed", String(index === view.only)));
      draw();
    });
    return made;
  });
  at("legend")?.replaceChildren(...buttons);
}

function paint() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries([...HUES, "paper", "muted"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  document.querySelectorAll("#legend canvas").forEach((swatch, label) => {
    const brush = swatch.getContext("2d"), ratio = window.devicePixelRatio || 1;
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, 16, 16);
    mark(brush, label, 8, 8, 5);
  });
  draw();
}

function lists() {
  at("duplicates")?.replaceChildren(...data.duplicates.map(([one, other, cosine]) => {
    const differ = [["label", "classes"], ["split", "splits"]].filter(([key]) => data.images[one][key] !== data.images[other][key]);
    const said = element("p", `cosine ${cosine}`);
    if (differ.length) said.append(", ", element("strong", `${differ.map(([, what]) => what).join(" and ")} differ`));
    const details = (image) => [data.images[image].name, [classOf(image), data.images[image].split].filter(Boolean).join(", ")];
    return item(button(one, "", details(one), 80), button(other, "", details(other), 80), said);
  }));
  at("outliers")?.replaceChildren(...data.outliers.map(([image, distance]) =>
    item(button(image, distance, [short(image), classOf(image)], 72))));
}

function listen() {
  let from = null, moved = false;
  map.addEventListener("pointerdown", (event) => {
    from = [event.offsetX, event.offsetY];
    moved = false;
  });
  map.addEventListener("pointermove", (event) => {
    const { offsetX: x, offsetY: y } = event;
    if (from && event.buttons && view.scale > 1 && (moved || Math.hypot(x - from[0], y - from[1]) > 4)) {
      view.x -= (x - from[0]) / extent();
      view.y -= (y - from[1]) / extent();
      [from, moved] = [[x, y], true];
      point(-1);
      draw();
    } else if (!event.buttons) point(found(x, y));
  });
  map.addEventListener("pointerleave", () => point(-1));
  map.addEventListener("click", (event) => {
    if (!moved) choose(found(event.offsetX, event.offsetY));
  });
  map.addEventListener("wheel", (event) => {
    // A pinch on a trackpad arrives so; without the key the wheel scrolls the page.
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200));
  }, { passive: false });
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const keys = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(1 / CLOSEST), Escape: () => choose(-1) };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) go(...steps[event.key]);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  at("nearer").addEventListener("click", () => zoom(1.5));
  at("farther").addEventListener("click", () => zoom(1 / 1.5));
  at("whole").addEventListener("click", () => zoom(1 / CLOSEST));
  at("pictures").addEventListener("change", draw);
  at("projection").addEventListener("change", (event) => {
    lay(event.target.value);
    zoom(1 / CLOSEST);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new ResizeObserver(draw).observe(map);
}

sprite.decode().then(() => {
  lay(data.maps.tsne ? "tsne" : "pca");
  legend();
  lists();
  paint();
  listen();
  document.documentElement.dataset.ready = "yes";
});
