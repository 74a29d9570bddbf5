/**
 * The command line: flags in, text out. The only place that prints or exits.
 * @module
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { askForVulkan, calmPolling } from "./cli/host.ts";
import { check, type CheckConfig } from "./pipeline/measure/check.ts";
import type { FinetuneConfig } from "./pipeline/settings/finetune.ts";
import type { HubProgress } from "./pipeline/hub/hub.ts";
import { dryRun } from "./pipeline/run/dry_run.ts";
import { finetune, type FinetuneEvent } from "./pipeline/run/finetune.ts";
import { CHECK_FLAGS, FINETUNE_FLAGS, type Flag, GENERATE_FLAGS } from "./pipeline/settings/flags.ts";
import { NotEnoughFingerprintsError } from "./pipeline/fingerprints/generate/errors.ts";
import { type GenerateEvent, generateFingerprints } from "./pipeline/fingerprints/generate/generate.ts";
import type { GenerateConfig } from "./pipeline/fingerprints/generate/settings.ts";
import { summaryText } from "./pipeline/fingerprints/generate/summary.ts";
import {
  checkText,
  droppedLines,
  dryRunText,
  epochLine,
  formatBytes,
  formatSeconds,
  measurementTable,
  memoryLines,
  profileTable,
  verdict,
} from "./pipeline/report/report.ts";
import { ResultsExistError } from "./pipeline/run/results.ts";

type Values = Record<string, string | number | boolean | undefined>;

const interrupt = new AbortController();
let interruptCode = 130;
let interrupted = "nothing was saved";

/** Lets a run end in order. Ctrl-C may arrive twice, from the terminal and from the task runner; both mean the same. */
function stopOnSignals(): void {
  const signals: [Deno.Signal, number][] = [["SIGINT", 130]];
  if (Deno.build.os !== "windows") signals.push(["SIGTERM", 143]);
  for (const [signal, code] of signals) {
    Deno.addSignalListener(signal, () => {
      if (interrupt.signal.aborted) return;
      interruptCode = code;
      interrupt.abort(new Error("interrupted"));
    });
  }
}

/** `deno task` runs in the project's folder; relative paths mean the caller's. */
function callerFolder(): string {
  const project = dirname(fileURLToPath(import.meta.url));
  return Deno.cwd() === project ? Deno.env.get("INIT_CWD") ?? project : Deno.cwd();
}

function reader(flag: Flag): (text: string) => unknown {
  return (text) => {
    if (flag.kind === "path") return resolve(callerFolder(), text);
    if (flag.kind === "switch") {
      if (text !== "true" && text !== "false") throw new InvalidArgumentError("expected true or false.");
      return text === "true";
    }
    if (flag.kind === "text" || flag.kind === "model") return text;
    const value = Number(text);
    const wrong = text.trim() === "" || !Number.isFinite(value) ||
      (flag.kind === "count" && !Number.isInteger(value));
    if (wrong) throw new InvalidArgumentError(`expected a ${flag.kind === "count" ? "whole " : ""}number.`);
    return value;
  };
}

function addFlags(command: Command, flags: readonly Flag[]): Command {
  for (const flag of flags) {
    const place = {
      switch: "[true|false]",
      path: "<path>",
      model: "<model>",
      count: "<n>",
      number: "<number>",
      text: "<name>",
    }[flag.kind];
    const option = new Option(`--${flag.name} ${place}`, flag.help).argParser(reader(flag));
    if (flag.kind === "switch") option.preset("true");
    if (flag.choices) option.choices(flag.choices);
    command.addOption(option);
    for (const alias of flag.aliases ?? []) {
      command.addOption(new Option(`--${alias} ${place}`, `same as --${flag.name}`).argParser(reader(flag)));
    }
  }
  return command;
}

/** Values by setting, aliases folded in. */
function settingsOf(values: Values, flags: readonly Flag[]): Values {
  const out: Values = {};
  for (const { name, aliases = [] } of flags) {
    for (const given of [name, ...aliases]) if (values[given] !== undefined) out[name] = values[given];
  }
  return out;
}

const colour = !Deno.noColor && Deno.stdout.isTerminal();
const bold = (text: string) => colour ? `\x1b[1m${text}\x1b[0m` : text;

function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80;
  }
}

/** Shows a run as it goes: a bar on a terminal, a line an epoch elsewhere. */
class Progress {
  readonly #bar = Deno.stdout.isTerminal();
  #success: number | undefined;
  #spent = 0;
  #downloaded = -1;
  #open = false;

  show(event: FinetuneEvent | GenerateEvent): void {
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
      case "settings":
        this.#line(
          "settings: " + Object.entries(event.settings).filter(([, value]) => value !== null)
            .map(([name, value]) => `${name}=${value}`).join(" "),
        );
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
    if (!this.#bar) return console.log(text);
    this.#draw(log.epoch / epochs, text);
    if (log.epoch === epochs) this.close();
  }

  #made({ count, wanted, attempts }: Extract<GenerateEvent, { type: "progress" }>): void {
    const text = `${count} of ${wanted} fingerprints, ${attempts} attempts`;
    if (!this.#bar) return console.log(text);
    this.#draw(count / wanted, text);
  }

  /** A bar on a terminal, a line every tenth of the way elsewhere. */
  #download({ file, bytesDone, bytesTotal }: HubProgress): void {
    const share = bytesTotal ? bytesDone / bytesTotal : 1;
    const text = `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}  ${file}`;
    if (this.#bar) return this.#draw(share, `downloading ${text}`);
    const tenth = Math.floor(share * 10);
    if (tenth > this.#downloaded) console.log(`downloading: ${text}`);
    this.#downloaded = Math.max(this.#downloaded, tenth);
  }

  #draw(share: number, text: string): void {
    // A line that wraps could not be written over.
    const columns = terminalColumns();
    const width = Math.max(0, Math.min(24, columns - text.length - 2));
    const done = Math.round(width * share);
    const line = `${"█".repeat(done)}${"░".repeat(width - done)} ${text}`.slice(0, columns - 1);
    Deno.stdout.writeSync(new TextEncoder().encode(`\r\x1b[K${line}`));
    this.#open = true;
  }

  /** Ends an unfinished bar's line. */
  close(): void {
    if (this.#open) Deno.stdout.writeSync(new TextEncoder().encode("\n"));
    this.#open = false;
  }

  #line(text: string): void {
    this.close();
    console.log(text);
  }
}

async function runFinetune(values: Values): Promise<number> {
  const { dry_run: only, ...given } = settingsOf(values, FINETUNE_FLAGS);
  const config = given as FinetuneConfig;
  if (only) {
    console.log(dryRunText(await dryRun(config, { signal: interrupt.signal, baseDir: callerFolder() })));
    return 0;
  }
  config.output_dir ??= resolve(callerFolder(), "results");
  stopOnSignals();
  const progress = new Progress();
  try {
    const result = await finetune(config, {
      signal: interrupt.signal,
      baseDir: callerFolder(),
      onEvent: (event) => progress.show(event),
    });
    console.log("\n" + measurementTable(result.before, result.after) + "\n");
    console.log(bold(verdict(result.before, result.after)));
    console.log(
      `device memory: ${formatBytes(result.peakBytes)} at the peak, ${
        formatBytes(result.plannedBytes)
      } planned; ` +
        `${formatSeconds(result.seconds)} in all, ${result.epochs} epochs${
          result.stoppedEarly ? " (stopped early)" : ""
        }`,
    );
    console.log(`model (to publish): ${result.modelPath}`);
    console.log(`fingerprints (keep secret): ${result.fingerprintsPath}`);
    return 0;
  } catch (error) {
    // What was asked for is there.
    if (!(error instanceof ResultsExistError)) throw error;
    progress.close();
    console.log(error.message);
    return 0;
  } finally {
    progress.close();
  }
}

async function runCheck(values: Values): Promise<number> {
  const { json, min_success_rate: minimum, ...config } = settingsOf(values, CHECK_FLAGS);
  stopOnSignals();
  const progress = new Progress();
  const result = await check(config as unknown as CheckConfig, {
    signal: interrupt.signal,
    baseDir: callerFolder(),
    onDownload: (event) => json || progress.show({ type: "download", progress: event }),
    onGpu: (name) => json || console.log(`adapter: ${name}`),
    onDropped: (dropped) => json || !droppedLines(dropped) || console.log(droppedLines(dropped)),
  });
  progress.close();
  console.log(json ? JSON.stringify(result) : checkText(result));
  if (typeof minimum === "number" && !(result.success_rate >= minimum)) {
    console.error(`error: the success rate is ${result.success_rate.toFixed(1)} %, below ${minimum} %`);
    return 1;
  }
  return 0;
}

async function runGenerate(values: Values): Promise<number> {
  stopOnSignals();
  const progress = new Progress();
  try {
    const { path, summary } = await generateFingerprints(
      settingsOf(values, GENERATE_FLAGS) as GenerateConfig,
      {
        signal: interrupt.signal,
        baseDir: callerFolder(),
        onEvent: (event) => {
          progress.show(event);
          const how = values.force ? " without --force" : "";
          if (event.type === "gpu") interrupted = `the same command${how} goes on where it was`;
        },
      },
    );
    progress.close();
    console.log("\n" + summaryText(summary));
    console.log(`fingerprints (keep secret): ${path}`);
    console.log(`what they were made from (keep secret): ${path}.secret`);
    return 0;
  } catch (error) {
    progress.close();
    if (error instanceof NotEnoughFingerprintsError && error.path) {
      console.log("\n" + summaryText(error.summary));
    }
    throw error;
  }
}

function program(done: (code: number) => void): Command {
  const whorl = new Command("whorl").description("Fingerprints language models on any GPU.").exitOverride()
    .configureOutput({
      writeOut: (text) => console.log(text.trimEnd()),
      writeErr: (text) => console.error(text.trimEnd()),
    });
  const add = (
    name: string,
    text: string,
    flags: readonly Flag[],
    run: (values: Values) => Promise<number>,
  ) => {
    const command = whorl.command(name).description(text).exitOverride().copyInheritedSettings(whorl);
    addFlags(command, flags).action(async (values: Values) => {
      if (values.webgpu === "dawn") calmPolling();
      done(await run(values));
    });
  };
  add(
    "finetune",
    "Embeds fingerprints into a model (without --model_path: into the demo model) and checks it.",
    FINETUNE_FLAGS,
    runFinetune,
  );
  add("check", "Asks a model every fingerprint and gives the success rate.", CHECK_FLAGS, runCheck);
  add("generate", "Makes fingerprints for a model and writes them to a file.", GENERATE_FLAGS, runGenerate);
  return whorl;
}

async function main(args: string[]): Promise<number> {
  // --model-path works like --model_path.
  const normal = args.map((arg) =>
    /^--[a-z]/.test(arg) ? arg.replace(/^[^=]+/, (name) => "--" + name.slice(2).replaceAll("-", "_")) : arg
  );
  let code = 0;
  await askForVulkan();
  try {
    await program((result) => code = result).parseAsync(normal, { from: "user" });
    return code;
  } catch (error) {
    if (interrupt.signal.aborted) {
      console.error(`interrupted: ${interrupted}`);
      return interruptCode;
    }
    if (error instanceof CommanderError) {
      // Commander has said it.
      return error.exitCode;
    }
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    if (!(error instanceof Error) || error.constructor === TypeError) console.error(error);
    return 1;
  }
}

Deno.exit(await main(Deno.args));
