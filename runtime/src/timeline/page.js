"use strict";
/* Draws the sections of the page as SVG. `view` is the time that a section shows, in microseconds:
   all its timelines share it. Text becomes markup only through `escape`. */

const NAME_WIDTH = 230, SHARE_WIDTH = 62, AXIS = 22, HEAD = 26, BAR = 22, THIN = 13, GAP = 5;
const LETTER = 6.6, TICK = 95, SHORTEST_VIEW_US = 2;
const KINDS = { prompt: "prompt chunk", decode: "decode rows", mixed: "decode rows and a prompt chunk", transfer: "under way on a link" };

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
const shorten = (text, width) => {
  const most = Math.floor(width / LETTER);
  return text.length > most ? text.slice(0, Math.max(1, most - 1)) + "\u2026" : text;
};

/* A time of an axis that ends at `most`, with the digits that tell its ticks apart. */
function time(us, step, most) {
  const [unit, size] = most >= 1e7 ? ["s", 1e6] : most >= 1e4 ? ["ms", 1e3] : ["\u00b5s", 1];
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step / size) + 1e-9)));
  return (us / size).toFixed(digits) + " " + unit;
}
const duration = (us) => us >= 1e6 ? (us / 1e6).toFixed(3) + " s" : us >= 1e3 ? (us / 1e3).toFixed(3) + " ms" : us.toFixed(1) + " \u00b5s";

function tickStep(lengthUs, width) {
  const least = lengthUs * TICK / width;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999);
}

/* Where each lane of a section lies, from the top. */
function arrange(section) {
  let y = 0;
  const timelines = section.timelines.map((timeline) => {
    const top = y;
    y += HEAD;
    const lanes = timeline.lanes.map((lane) => {
      const nRows = lane.spans.reduce((most, span) => Math.max(most, span[3] + 1), 1);
      const isLink = lane.spans.length > 0 && lane.spans.every((span) => span[5] === "transfer");
      const bar = isLink || nRows > 1 ? THIN : BAR;
      const at = { top: y, bar, height: bar * nRows };
      y += at.height + GAP;
      return at;
    });
    const bottom = y;
    y += AXIS + 6;
    return { top, lanes, bottom };
  });
  return { timelines, height: y };
}

/* The section as SVG, `width` pixels wide. `marked` is the label of the step to outline. */
function draw(section, width, view, marked) {
  const places = arrange(section);
  const plot = Math.max(100, width - NAME_WIDTH - SHARE_WIDTH);
  const scale = plot / (view.to - view.from);
  const x = (us) => NAME_WIDTH + (us - view.from) * scale;
  const right = NAME_WIDTH + plot;
  const step = tickStep(view.to - view.from, plot);
  const out = [];
  section.timelines.forEach((timeline, t) => {
    const place = places.timelines[t];
    const name = timeline.name + ": " + duration(timeline.end_us);
    out.push(`<text class="head" x="0" y="${place.top + 17}">${escape(name)}</text>`);
    out.push(`<text class="faint" x="${width}" y="${place.top + 17}" text-anchor="end">busy</text>`);
    timeline.lanes.forEach((lane, l) => {
      const { top, height } = place.lanes[l];
      out.push(`<rect class="lane" x="${NAME_WIDTH}" y="${top}" width="${plot}" height="${height}"/>`);
    });
    for (let us = Math.ceil(view.from / step) * step; us <= view.to; us += step) {
      const at = x(us).toFixed(1), label = time(us, step, view.to);
      const room = label.length * LETTER / 2;
      out.push(`<line class="tick" x1="${at}" x2="${at}" y1="${place.top + HEAD}" y2="${place.bottom}"/>`);
      if (+at + room <= width) out.push(`<text class="faint" x="${at}" y="${place.bottom + 14}" text-anchor="middle">${label}</text>`);
    }
    timeline.lanes.forEach((lane, l) => {
      const { top, bar, height } = place.lanes[l];
      const share = timeline.end_us > 0 ? 100 * lane.busy_us / timeline.end_us : 0;
      const middle = top + height / 2 + 4;
      out.push(`<text x="0" y="${middle}">${escape(shorten(lane.name, NAME_WIDTH - 8))}<title>${escape(lane.name)}</title></text>`);
      out.push(`<text x="${width}" y="${middle}" text-anchor="end">${share.toFixed(1)} %</text>`);
      lane.spans.forEach((span, s) => {
        const [start, end, , row, label, kind] = span;
        if (end < view.from || start > view.to) return;
        const from = Math.max(NAME_WIDTH, x(start)), to = Math.min(right, x(end));
        /* A gap between neighbours where there is room for it, and always something to see. */
        const wide = Math.max(0.4, to - from > 4 ? to - from - 0.6 : to - from);
        const y = top + row * bar;
        const same = label === marked ? " same" : "";
        const odd = Number(label) % 2 ? " odd" : "";
        out.push(`<rect class="${kind}${odd}${same}" x="${from.toFixed(2)}" y="${y + 0.5}" width="${wide.toFixed(2)}" height="${bar - 1}" data-at="${t},${l},${s}"/>`);
        if (bar === BAR && wide > label.length * LETTER + 4) {
          const rows = span[6] + span[7] + (span[6] + span[7] === 1 ? " row" : " rows");
          const text = wide > (label.length + rows.length + 2) * LETTER + 6 ? label + ": " + rows : label;
          out.push(`<text class="on" x="${((from + to) / 2).toFixed(1)}" y="${y + bar / 2 + 4}" text-anchor="middle">${escape(text)}</text>`);
        }
      });
    });
  });
  return `<svg width="${width}" height="${places.height}" role="img">${out.join("")}</svg>`;
}

function describe(section, at) {
  const [t, l, s] = at.split(",").map(Number);
  const lane = section.timelines[t].lanes[l];
  const [start, end, wait, , label, kind, prompts, decodes] = lane.spans[s];
  const lines = ["step " + label + " \u00b7 " + KINDS[kind], lane.name];
  if (prompts) lines.push("rows of prompts: " + prompts);
  if (decodes) lines.push("rows of answers: " + decodes);
  lines.push("start: " + duration(start), "duration: " + duration(end - start));
  if (kind !== "transfer" || wait > 0) lines.push("waited before: " + duration(wait));
  return { label, text: lines.join("\n") };
}

function show(section, parent, hint) {
  const end = Math.max(SHORTEST_VIEW_US, ...section.timelines.map((timeline) => timeline.end_us));
  let view = { from: 0, to: end }, marked = null, due = false, grip = null;
  const chart = parent.appendChild(document.createElement("div"));
  chart.className = "chart";
  chart.tabIndex = 0;
  const width = () => Math.max(480, chart.clientWidth);
  const redraw = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; chart.innerHTML = draw(section, width(), view, marked); });
  };
  const plot = () => width() - NAME_WIDTH - SHARE_WIDTH;
  const timeAt = (clientX) => view.from + (clientX - chart.getBoundingClientRect().left - NAME_WIDTH) / plot() * (view.to - view.from);
  const look = (from, length) => {
    length = Math.min(end, Math.max(SHORTEST_VIEW_US, length));
    from = Math.min(end - length, Math.max(0, from));
    view = { from, to: from + length };
    redraw();
  };
  const zoom = (around, factor) => look(around - (around - view.from) * factor, (view.to - view.from) * factor);
  const mark = (label) => { if (label !== marked) { marked = label; redraw(); } };
  chart.addEventListener("wheel", (event) => {
    event.preventDefault();
    const length = view.to - view.from;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) look(view.from + (event.deltaX || event.deltaY) / plot() * length, length);
    else zoom(Math.min(end, Math.max(0, timeAt(event.clientX))), Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 400));
  }, { passive: false });
  chart.addEventListener("pointerdown", (event) => { grip = { x: event.clientX, from: view.from }; chart.setPointerCapture(event.pointerId); hint.hidden = true; });
  chart.addEventListener("pointerup", () => { grip = null; });
  chart.addEventListener("pointercancel", () => { grip = null; });
  chart.addEventListener("pointermove", (event) => {
    const length = view.to - view.from;
    if (grip) return look(grip.from - (event.clientX - grip.x) / plot() * length, length);
    const at = event.target.dataset ? event.target.dataset.at : undefined;
    hint.hidden = !at;
    if (!at) return mark(null);
    const told = describe(section, at);
    hint.textContent = told.text;
    hint.style.left = Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8) + "px";
    hint.style.top = Math.min(event.clientY + 14, innerHeight - hint.offsetHeight - 8) + "px";
    mark(told.label);
  });
  chart.addEventListener("pointerleave", () => { hint.hidden = true; mark(null); });
  chart.addEventListener("dblclick", () => look(0, end));
  chart.addEventListener("keydown", (event) => {
    const length = view.to - view.from, middle = view.from + length / 2;
    const keys = { "+": () => zoom(middle, 0.7), "-": () => zoom(middle, 1 / 0.7), "0": () => look(0, end), ArrowLeft: () => look(view.from - length / 8, length), ArrowRight: () => look(view.from + length / 8, length) };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  addEventListener("resize", redraw);
  redraw();
}

function paragraph(parent, text) {
  parent.appendChild(document.createElement("p")).textContent = text;
}

function start() {
  const sections = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page"), hint = document.getElementById("hint");
  const legend = page.appendChild(document.createElement("p"));
  legend.className = "legend";
  for (const [kind, text] of [...Object.entries(KINDS), ["idle", "idle"]]) {
    const item = legend.appendChild(document.createElement("span"));
    item.appendChild(document.createElement("i")).className = kind;
    item.append(text);
  }
  paragraph(page, "Wheel or + and - to zoom, drag or arrow keys to move, double click or 0 for all; a bar under the pointer marks its step in every lane.");
  for (const section of sections) {
    page.appendChild(document.createElement("h2")).textContent = section.title;
    show(section, page, hint);
    for (const timeline of section.timelines) for (const note of timeline.notes) paragraph(page, timeline.name + ": " + note);
  }
}
start();
