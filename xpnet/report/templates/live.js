"use strict";
// Draws the run anew each second, from what its process tells at /figures; all text from there stays text.
(() => {
  const names = "http://www.w3.org/2000/svg";
  const element = (name, attributes, parent, text) => {
    const made = document.createElementNS(names, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const short = value => Math.abs(value) >= 1e4 || value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  const chart = (title, curves, epochs, percent) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    const svg = element("svg", {viewBox: "0 0 420 230", role: "img"}, figure);
    figure.prepend(caption);
    const known = Object.values(curves).flat().filter(value => value !== null);
    if (!known.length) return figure;
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
    const last = Math.max(2, epochs.at(-1));
    const x = epoch => 52 + 356 * (epoch - 1) / (last - 1);
    const y = value => 196 - 166 * (value - low) / (high - low);
    for (let i = 0; i <= 4; i++) {
      const value = low + (high - low) * i / 4;
      element("line", {x1: 52, x2: 408, y1: y(value), y2: y(value), class: "grid"}, svg);
      element("text", {x: 46, y: y(value) + 4, "text-anchor": "end"}, svg, percent ? `${(100 * value).toFixed(1)}%` : short(value));
    }
    [...new Set([1, Math.ceil(last / 2), last])].forEach(epoch => element("text", {x: x(epoch), y: 214, "text-anchor": "middle"}, svg, epoch));
    const said = [];
    const widest = Math.max(...Object.keys(curves).map(name => 6.4 * name.length + 14));
    const columns = Math.max(1, Math.floor(356 / widest));
    const lines = Math.ceil(Object.keys(curves).length / columns);
    svg.setAttribute("viewBox", `0 ${-13 * (lines - 1)} 420 ${230 + 13 * (lines - 1)}`);
    Object.entries(curves).forEach(([name, values], number) => {
      const points = values.map((value, at) => [epochs[at], value]).filter(([, value]) => value !== null);
      element("polyline", {points: points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" "), class: `line c${number % 6}`}, svg);
      if (points.length === 1) element("circle", {cx: x(points[0][0]), cy: y(points[0][1]), r: 3, class: `dot c${number % 6}`}, svg);
      element("text", {x: 52 + widest * (number % columns), y: 14 - 13 * (lines - 1 - Math.floor(number / columns)), class: `name c${number % 6}`}, svg, name);
      if (points.length) said.push(`${name} ${short(points.at(-1)[1])}`);
    });
    svg.setAttribute("aria-label", `${title} by epoch, now ${said.join(", ")}`);
    return figure;
  };
  const show = run => {
    document.title = `${run.epoch} of ${run.of}: ${run.title}`;
    document.getElementById("title").textContent = run.title;
    document.getElementById("state").textContent = run.state;
    const bar = document.getElementById("progress");
    [bar.max, bar.value] = [run.of, run.epoch];
    document.getElementById("conclusion").textContent = run.conclusion;
    document.getElementById("charts").replaceChildren(...run.charts.map(one => chart(one.title, one.curves, run.epochs, one.percent)));
  };
  let ended = false;
  const look = async () => {
    try {
      const answer = await fetch("figures");
      const run = await answer.json();
      show(run);
      ended = run.ended;
    } catch {
      if (!ended) document.getElementById("state").textContent = "The run has ended, or its process has gone.";
      return;
    }
    if (!ended) setTimeout(look, 1000);
  };
  look();
})();
