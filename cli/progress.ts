import type { GenerateEvent } from "../pipeline/fingerprints/generate/generate.ts";
import type { HubProgress } from "../pipeline/hub/hub.ts";
import {
  droppedLines,
  epochLine,
  formatBytes,
  leftLines,
  leftoverLines,
  memoryLines,
  profileTable,
  settingsLine,
  unusedLine,
} from "../pipeline/report/report.ts";
import { noteUnprinted } from "./host.ts";
import type { Output } from "./output.ts";
import type { FinetuneEvent } from "../pipeline/run/events.ts";

function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80;
  }
}

function write(text: string): void {
  try {
    Deno.stdout.writeSync(new TextEncoder().encode(text));
  } catch (error) {
    noteUnprinted(error);
  }
}

/** How long a phase may take without a word, where there is no bar. */
const QUIET_MS = 15_000;

/** Shows a run as it goes: a bar on a terminal, a line an epoch elsewhere, and with --json objects. */
export class Progress {
  readonly #bar: boolean;
  #success: number | undefined;
  #spent = 0;
  #downloaded = -1;
  #open = false;
  #phase = "loading";
  /** When a line was last said of a phase's progress. */
  #said = performance.now();
  /** When an object was. */
  #told = 0;

  constructor(readonly output: Output) {
    this.#bar = Deno.stdout.isTerminal() && !output.isJson;
  }

  show(event: FinetuneEvent | GenerateEvent): void {
    if (event.type !== "work" || this.#isDue(event)) this.output.object(event);
    switch (event.type) {
      case "gpu":
        this.#line(`adapter: ${event.name}${event.isSoftware ? " (software)" : ""}`);
        break;
      case "matrix":
        this.#line(
          `matrix units: ${event.unit.type} ${event.unit.M}×${event.unit.N}×${event.unit.K}, sums in f32; a product of ` +
            `${event.shape.join("×")} is off by ${event.relativeError.toExponential(1)} (f32: about 1e-7)`,
        );
        break;
      case "fingerprints": {
        this.#line(`fingerprints: ${event.count}`);
        const dropped = droppedLines(event.dropped);
        if (dropped) this.#line(dropped);
        break;
      }
      case "unused":
        this.#line(unusedLine(event.tensors));
        break;
      case "left":
        this.#line(leftLines(event.files));
        break;
      case "leftovers":
        this.#line(leftoverLines(event.leftovers));
        break;
      case "unwritten":
        this.#line(`warning: ${event.error.message}; the run goes on without it`);
        break;
      case "changed":
        this.#line(`warning: changed since the run read it: ${event.files.join(", ")}`);
        break;
      case "rescued":
        this.#line(`warning: ${event.reason}; the results go to ${event.results}`);
        break;
      case "kept":
        this.#line(`the trained model is kept: ${event.path}`);
        break;
      case "settings":
        this.#line(settingsLine(event.settings));
        break;
      case "memory":
        this.#line(`memory: ${memoryLines(event.choice, event.limitBytes)}`);
        break;
      case "model":
        this.#line(`model: ${event.source.name}${event.source.commit ? ` at ${event.source.commit}` : ""}`);
        break;
      case "download":
        this.#download(event.progress);
        break;
      case "phase":
        this.#line(`${event.name} …`);
        this.#phase = event.name;
        this.#said = performance.now();
        break;
      case "work":
        this.#work(event);
        break;
      case "measured": {
        const { measurement: m, when } = event;
        this.#success = m.successRate;
        this.#line(
          `${when}: success ${m.successRate.toFixed(1)} % (in held-out prompts ${
            m.promptedSuccessRate.toFixed(1)
          } %)`,
        );
        break;
      }
      case "epoch":
        this.#epoch(event);
        break;
      case "resumed":
        this.#line(`going on after ${event.count} fingerprints of a stopped run`);
        break;
      case "profile":
        this.#line(`one forward and backward pass:\n${profileTable(event.spans)}`);
        break;
      case "progress":
        this.#made(event);
        break;
    }
  }

  #epoch({ log, epochs }: Extract<FinetuneEvent, { type: "epoch" }>): void {
    this.#success = log.successRate ?? this.#success;
    this.#spent += log.seconds;
    const left = this.#spent / log.epoch * (epochs - log.epoch);
    const text = epochLine(log, epochs, this.#success, left);
    if (!this.#bar) return this.output.text(text);
    this.#draw(log.epoch / epochs, text);
    if (log.epoch === epochs) this.close();
  }

  /** An object a second is enough of what may come for every token. */
  #isDue({ done, total }: Extract<FinetuneEvent, { type: "work" }>): boolean {
    const isDue = done >= total || performance.now() - this.#told > 1000;
    if (isDue) this.#told = performance.now();
    return isDue;
  }

  /** A bar on a terminal; elsewhere a line now and then, of what takes long. */
  #work({ done, total }: Extract<FinetuneEvent, { type: "work" }>): void {
    const text = `${this.#phase}: ${Math.floor(100 * done / Math.max(1, total))} %`;
    if (this.#bar) {
      this.#draw(done / Math.max(1, total), text);
      if (done >= total) this.#clear();
    } else if (performance.now() - this.#said > QUIET_MS) {
      this.#said = performance.now();
      this.output.text(text);
    }
  }

  #made({ count, wanted, attempts }: Extract<GenerateEvent, { type: "progress" }>): void {
    const text = `${count} of ${wanted} fingerprints, ${attempts} attempts`;
    if (!this.#bar) return this.output.text(text);
    this.#draw(count / wanted, text);
  }

  /** A bar on a terminal, a line every tenth of the way elsewhere. */
  #download({ file, bytesDone, bytesTotal }: HubProgress): void {
    const share = bytesTotal ? bytesDone / bytesTotal : 1;
    const text = `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}  ${file}`;
    if (this.#bar) return this.#draw(share, `downloading ${text}`);
    const tenth = Math.floor(share * 10);
    if (tenth > this.#downloaded) this.output.text(`downloading: ${text}`);
    this.#downloaded = Math.max(this.#downloaded, tenth);
  }

  #draw(share: number, text: string): void {
    // A line that wraps could not be written over.
    const columns = terminalColumns();
    const width = Math.max(0, Math.min(24, columns - text.length - 2));
    const done = Math.round(width * share);
    const line = `${"█".repeat(done)}${"░".repeat(width - done)} ${text}`.slice(0, columns - 1);
    write(`\r\x1b[K${line}`);
    this.#open = true;
  }

  /** Takes a bar away that nothing follows. */
  #clear(): void {
    write("\r\x1b[K");
    this.#open = false;
  }

  /** Ends an unfinished bar's line. */
  close(): void {
    if (this.#open) write("\n");
    this.#open = false;
  }

  #line(text: string): void {
    this.close();
    this.output.text(text);
  }
}
