import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { Measurement } from "../pipeline/run/events.ts";

/** What the plot shows of a run. */
interface PlottedRow {
  method: string;
  count: number;
  before: Measurement;
  after: Measurement;
}

const COLOURS = { nothing: "#c0392b", recursive: "#e08e0b", anchor: "#1f6fb2" };

const PANELS = ["success, %", "success in held-out prompts, %", "held-out loss, % worse"] as const;

/** An SVG of success and held-out loss against the number of fingerprints, a line a method. */
export function scalabilityPlot(rows: readonly PlottedRow[]): string {
  const points = rows.flatMap(({ method, count, before, after }) => [
    { method, count, panel: PANELS[0], value: after.successRate },
    { method, count, panel: PANELS[1], value: after.promptedSuccessRate },
    { method, count, panel: PANELS[2], value: 100 * (after.heldOutLoss! / before.heldOutLoss! - 1) },
  ]);
  const panels = PANELS.map((panel, i) => {
    const { document } = parseHTML("<html><body></body></html>") as unknown as Pick<
      Plot.PlotOptions,
      "document"
    >;
    const svg = Plot.plot({
      document,
      width: 420,
      height: 300,
      marginLeft: 50,
      title: undefined,
      grid: true,
      x: {
        type: "log",
        base: 2,
        label: "fingerprints",
        ticks: [...new Set(rows.map(({ count }) => count))],
        tickFormat: "d",
      },
      y: i < 2 ? { label: panel, domain: [0, 100] } : { label: panel, zero: true },
      color: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
      marks: [
        Plot.line(points.filter((point) => point.panel === panel), {
          x: "count",
          y: "value",
          stroke: "method",
          z: "method",
          strokeWidth: 2,
          marker: "circle",
        }),
      ],
    });
    svg.setAttribute("x", String(i * 430));
    svg.setAttribute("y", "30");
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return svg.outerHTML;
  });
  const legend = Object.entries(COLOURS).map(([method, colour], i) =>
    `<circle cx="${60 + i * 110}" cy="14" r="5" fill="${colour}"/><text x="${
      70 + i * 110
    }" y="18">${method}</text>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="1290" height="330" viewBox="0 0 1290 330" font-size="13" ` +
    `font-family="system-ui, sans-serif" style="background: white">\n${
      [...legend, ...panels].join("\n")
    }\n</svg>\n`;
}
