"use strict";
// A map of items: Leaflet pans and zooms over tiles, on which the points are drawn here. What is
// written of items is text, never HTML.
(async () => {
  const TILE = 256;
  const NUM_LABEL = 60;
  const NUM_FOUND = 50;
  const REACH = 12; // how far from a point a click may be, in pixels
  const byId = (id) => document.getElementById(id);

  // ------------------------------------------------------------------ data

  const packed = JSON.parse(byId("data").textContent);
  async function unpack(name) {
    const text = atob(packed[name]);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    delete packed[name];
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }
  const texts = JSON.parse(new TextDecoder().decode(await unpack("texts")));
  const { labels, groups, colours } = texts;
  const points = new Float32Array(await unpack("points")); // from -0.5 to 0.5; y goes up
  const group = new Uint8Array(await unpack("group"));
  const numItem = labels.length;
  /** Return a label, cut between characters. */
  function shortened(row, length) {
    const characters = [...labels[row].slice(0, 2 * length + 2)];
    return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : labels[row];
  }

  // ------------------------------------------------------------------- map

  const map = L.map("map", {
    crs: L.CRS.Simple, minZoom: -1, maxZoom: 12, fadeAnimation: false, attributionControl: false,
  });
  const size = 0.92 * Math.min(map.getSize().x, map.getSize().y);
  const place = (row) => [points[2 * row + 1] * size, points[2 * row] * size];
  map.setMaxBounds([[-size, -size], [size, size]]);
  const smallest = Math.min(4, Math.max(1.5, 60 / Math.sqrt(numItem)));
  const radius = (zoom) => Math.min(7, smallest + 0.8 * Math.max(0, zoom));

  /** How much of each pixel around its centre a dot covers: a square of odd width. */
  function coverage(r) {
    const reach = Math.ceil(r), width = 2 * reach + 1;
    const cover = (x, y) => 0.75 * Math.max(0, Math.min(1, r + 0.5 - Math.hypot(x, y)));
    return Float32Array.from({ length: width * width }, (_, i) =>
      cover((i % width) - reach, Math.floor(i / width) - reach));
  }
  const shades = colours.map((colour) =>
    [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16)));

  // Pixel by pixel: to have the browser draw 100,000 small dots takes many times as long.
  function drawTile(canvas, coords) {
    const scale = window.devicePixelRatio || 1;
    const end = canvas.width = canvas.height = Math.round(TILE * scale);
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const image = pen.createImageData(end, end);
    const data = image.data.fill(255);
    const r = radius(coords.z) * scale, reach = Math.ceil(r), width = 2 * reach + 1;
    const cover = coverage(r);
    const zoomed = size * 2 ** coords.z * scale;
    const left = coords.x * TILE * scale, top = coords.y * TILE * scale;
    // The most frequent item is the first, and on top.
    for (let row = numItem - 1; row >= 0; row--) {
      const x = Math.round(points[2 * row] * zoomed - left) - reach;
      const y = Math.round(-points[2 * row + 1] * zoomed - top) - reach;
      if (x <= -width || x >= end || y <= -width || y >= end) continue;
      const [red, green, blue] = shades[group[row]];
      const low = Math.max(0, x), high = Math.min(end, x + width);
      for (let v = Math.max(0, y); v < Math.min(end, y + width); v++) {
        for (let u = low; u < high; u++) {
          const share = cover[(v - y) * width + u - x], at = 4 * (v * end + u);
          data[at] += share * (red - data[at]);
          data[at + 1] += share * (green - data[at + 1]);
          data[at + 2] += share * (blue - data[at + 2]);
        }
      }
    }
    pen.putImageData(image, 0, 0);
  }
  const Dots = L.GridLayer.extend({
    createTile(coords, done) {
      const canvas = document.createElement("canvas");
      // Each in a task of its own: no frame waits for all.
      setTimeout(() => { drawTile(canvas, coords); done(null, canvas); });
      return canvas;
    },
  });
  map.setView([0, 0], 0);
  const dotLayer = new Dots({ tileSize: TILE, noWrap: true, minZoom: -1, maxZoom: 12 });
  dotLayer.once("load", () => performance.mark("map-drawn"));
  dotLayer.addTo(map);

  /** Return the item that is nearest to a place of the screen, or -1. */
  function itemAt(position) {
    const { lat, lng } = map.containerPointToLatLng(position);
    const x = lng / size, y = lat / size;
    let best = -1, least = (REACH / (size * 2 ** map.getZoom())) ** 2;
    for (let row = 0; row < numItem; row++) {
      const far = (points[2 * row] - x) ** 2 + (points[2 * row + 1] - y) ** 2;
      if (far < least) { least = far; best = row; }
    }
    return best;
  }

  // ---------------------------------------------------------------- labels

  const names = L.layerGroup().addTo(map);
  let chosen = []; // an item, and its neighbours
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = "11px system-ui, sans-serif"; // as in the style
  function nameMarker(row, text) {
    const html = document.createElement("span");
    html.textContent = text;
    const icon = L.divIcon({ className: "name", html, iconSize: [0, 0], iconAnchor: [-7, 9] });
    return L.marker(place(row), { icon, interactive: false, keyboard: false });
  }
  /** Write the names of what was chosen, and of the most frequent items, in view, with room. */
  function writeNames() {
    names.clearLayers();
    const taken = [], first = new Set(chosen), view = map.getBounds();
    const [west, east] = [view.getWest() / size, view.getEast() / size];
    const [south, north] = [view.getSouth() / size, view.getNorth() / size];
    const end = numItem + chosen.length;
    for (let i = 0, tried = 0; i < end && taken.length < NUM_LABEL && tried < 2000; i++) {
      const row = i < chosen.length ? chosen[i] : i - chosen.length;
      const x = points[2 * row], y = points[2 * row + 1];
      if (x < west || x > east || y < south || y > north) continue;
      if (i >= chosen.length && first.has(row)) continue;
      tried++;
      const at = map.latLngToContainerPoint(place(row));
      const text = shortened(row, 40);
      const right = at.x + 14 + ruler.measureText(text).width;
      if (taken.some((t) => at.x < t.right && right > t.x && Math.abs(at.y - t.y) < 16)) continue;
      taken.push({ x: at.x, y: at.y, right });
      nameMarker(row, text).addTo(names);
    }
  }
  map.on("moveend", writeNames);
  writeNames();

  const tip = L.tooltip({ direction: "top", offset: [0, -6] });
  let pointer = null;
  map.on("mousemove", (event) => {
    if (pointer === null) requestAnimationFrame(showTip);
    pointer = event.containerPoint;
  });
  map.on("mouseout dragstart zoomstart", () => tip.remove());
  function showTip() {
    const row = map.dragging.moving() ? -1 : itemAt(pointer);
    pointer = null;
    if (row < 0) return tip.remove();
    const text = document.createElement("span");
    text.textContent = shortened(row, 120);
    tip.setLatLng(place(row)).setContent(text).addTo(map);
  }

  // ---------------------------------------------------- items and neighbours

  function listed(row, cosine) {
    const line = document.createElement("li");
    const button = line.appendChild(document.createElement("button"));
    button.appendChild(document.createElement("span")).textContent = shortened(row, 120);
    if (cosine !== undefined) {
      button.appendChild(document.createElement("data")).textContent = cosine.toFixed(2);
    }
    button.addEventListener("click", () => { choose(row); show(row); });
    return line;
  }

  // They are looked at after a click, so that the map need not wait for them.
  const near = Promise.all([unpack("neighbours"), unpack("cosines")]).then(
    ([rows, cosines]) => ({ rows: new Int32Array(rows), cosines: new Int8Array(cosines) })
  );
  const marks = L.layerGroup().addTo(map);
  const mark = (row, className) => L.circleMarker(place(row), {
    radius: className === "chosen" ? 9 : 6, weight: 2, fill: false, className, interactive: false,
    color: className === "chosen" ? "#d00" : "#000",
  }).addTo(marks);

  async function choose(row) {
    const { rows, cosines } = await near;
    const count = rows.length / numItem;
    byId("label").textContent = labels[row];
    byId("of").textContent = `${texts.by}: ${groups[group[row]]}`;
    marks.clearLayers();
    const lines = [];
    for (let i = row * count; i < (row + 1) * count; i++) {
      lines.push(listed(rows[i], cosines[i] / 100));
      L.polyline([place(row), place(rows[i])], {
        color: "#000", weight: 1, opacity: 0.4, interactive: false,
      }).addTo(marks);
      mark(rows[i], "neighbour");
    }
    mark(row, "chosen");
    chosen = [row, ...rows.subarray(row * count, (row + 1) * count)];
    writeNames();
    byId("neighbours").replaceChildren(...lines);
    byId("item").hidden = false;
  }
  // As near as tells an item from its neighbours.
  const closeUp = Math.max(3, Math.round(Math.log2(numItem) / 2 - 3));
  const show = (row) => map.setView(place(row), Math.max(map.getZoom(), closeUp));
  map.on("click", (event) => {
    const row = itemAt(event.containerPoint);
    if (row >= 0) choose(row);
  });

  // ---------------------------------------------------------------- search

  const fold = (text) => text.toLowerCase().normalize("NFC");
  let folded = null;
  function search() {
    const wanted = fold(byId("search").value.trim());
    folded ??= labels.map(fold);
    const hits = [];
    if (wanted) folded.forEach((text, row) => { if (text.includes(wanted)) hits.push(row); });
    // What is called so comes first, then what begins so.
    const rank = (row) => (folded[row] === wanted ? 0 : folded[row].startsWith(wanted) ? 1 : 2);
    hits.sort((a, b) => rank(a) - rank(b) || a - b);
    const shown = hits.slice(0, NUM_FOUND);
    byId("found").replaceChildren(...shown.map((row) => listed(row)));
    byId("told").textContent = !wanted ? ""
      : `${hits.length.toLocaleString("en")} found`
        + (hits.length > shown.length ? `; the first ${shown.length} are shown` : "");
    return hits;
  }
  byId("search").addEventListener("input", search);
  byId("search").addEventListener("keydown", (event) => {
    const hits = event.key === "Enter" ? search() : [];
    if (hits.length) { choose(hits[0]); show(hits[0]); }
  });

  // ---------------------------------------------------------------- legend

  byId("by").textContent = texts.by;
  byId("legend").replaceChildren(...groups.map((text, number) => {
    const line = document.createElement("li");
    line.appendChild(document.createElement("i")).style.background = colours[number];
    line.appendChild(document.createElement("span")).textContent = text;
    return line;
  }));
  byId("note").textContent = texts.note;
  byId("told").textContent = "";
})().catch((error) => {
  document.getElementById("told").textContent =
    `The map cannot be shown: ${error.message}. It takes a browser of 2023 or later.`;
});
