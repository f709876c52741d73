// Draws the figures of a page in its colours and its width, and renews the page where it is served.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const NARROW = 480; // pixels below which two panels stand one above the other

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function stacked(layout) {
  // the panels of a figure, one above the other; the legend stays below
  const height = 2 * layout.height - 110;
  layout.height = height;
  for (const key of Object.keys(layout)) {
    const axis = key.match(/^(x|y)axis(2?)$/);
    if (!axis) continue;
    const second = axis[2] === "2";
    layout[key].domain = axis[1] === "x" ? [0, 1] : second ? [0, 0.42] : [0.58, 1];
  }
  for (const note of layout.annotations || []) {
    if (note.xref === "paper" && note.yref === "paper") {
      const second = note.x > 0.5;
      note.x = 0.5;
      note.y = second ? 0.42 : 1;
    }
  }
  const inner = height - (layout.margin.t || 0) - (layout.margin.b || 0);
  if (layout.legend) layout.legend.y = -55 / inner;
}

function themed(layout) {
  const lines = { gridcolor: ink("--line"), zerolinecolor: ink("--line"), linecolor: ink("--line"), automargin: true };
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { ...(layout.font || {}), color: ink("--ink"), family: "system-ui, sans-serif" };
  for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) layout[key] = { ...lines, ...layout[key] };
  layout.hoverlabel = { bgcolor: ink("--paper"), font: { color: ink("--ink") } };
}

function turned(layout, width) {
  // names along an axis, where they would cover each other
  for (const key of Object.keys(layout)) {
    const axis = layout[key];
    if (!/^xaxis/.test(key) || !axis.ticktext) continue;
    const share = axis.domain ? axis.domain[1] - axis.domain[0] : 1;
    if ((share * width) / axis.ticktext.length < 105) axis.tickangle = -35;
  }
}

function readable(values) {
  // what is drawn in black would be lost on a dark page
  const text = JSON.stringify(values);
  return JSON.parse(dark.matches ? text.replace(/"#(000000|222222|333333|444)"/g, '"#e6ebf1"') : text);
}

function draw(figure) {
  const place = figure.querySelector(".plot");
  const { data, layout } = readable(JSON.parse(figure.querySelector("script").textContent));
  layout.margin = { l: 50, r: 12, t: 28, b: 95, ...layout.margin };
  layout.margin.t = 28;
  layout.margin.r = 12;
  layout.height = layout.height || 400;
  layout.autosize = true;
  themed(layout);
  if (place.clientWidth < NARROW && layout.xaxis2) stacked(layout);
  turned(layout, place.clientWidth - 62);
  place.style.minHeight = `${layout.height}px`;
  Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  if (figure.dataset.trials) {
    place.removeAllListeners("plotly_click");
    place.on("plotly_click", (event) => {
      const trial = /^#(\d+)$/.exec(event.points[0].text || "");
      if (trial) location.href = figure.dataset.trials + trial[1];
    });
  }
}

function drawAll() {
  document.querySelectorAll("figure").forEach(draw);
}

dark.addEventListener("change", drawAll);
let waiting = 0; // a window that is drawn wider resizes many times
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 150);
});

const renewed = document.documentElement.dataset;
async function renew() {
  // asks whether there is news; the answer is empty where there is none
  try {
    const address = location.origin + location.pathname; // without a login that was typed into it
    const answer = await fetch(address, { headers: { "If-None-Match": renewed.tag || "" } });
    if (answer.status === 200) {
      renewed.tag = answer.headers.get("ETag") || "";
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const [left, top] = [scrollX, scrollY];
      document.querySelector("main").replaceWith(page.querySelector("main"));
      drawAll();
      scrollTo(left, top);
    }
  } catch (error) {
    // the server is away; the next look may find it
  }
  setTimeout(renew, document.querySelector("[data-soon]") ? 1000 : 5000);
}

drawAll();
const tag = document.querySelector('meta[name="page-tag"]');
if (tag) {
  renewed.tag = tag.content;
  setTimeout(renew, document.querySelector("[data-soon]") ? 500 : 5000);
}
