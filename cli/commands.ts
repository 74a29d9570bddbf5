/**
 * What each command does: runs it, prints what comes out, and gives the exit code.
 * @module
 */
import { resolve } from "node:path";
import { NotEnoughFingerprintsError } from "../pipeline/fingerprints/generate/errors.ts";
import { generateFingerprints } from "../pipeline/fingerprints/generate/generate.ts";
import { summaryText } from "../pipeline/fingerprints/generate/summary.ts";
import { check } from "../pipeline/measure/check.ts";
import {
  checkText,
  droppedLines,
  dryRunText,
  formatBytes,
  formatSeconds,
  measurementTable,
  verdict,
} from "../pipeline/report/report.ts";
import { dryRun } from "../pipeline/run/dry_run.ts";
import { finetune } from "../pipeline/run/finetune.ts";
import { ResultsExistError } from "../pipeline/run/results.ts";
import type { CheckConfig } from "../pipeline/settings/check.ts";
import type { CommandDescription } from "../pipeline/settings/commands.ts";
import type { FinetuneConfig } from "../pipeline/settings/finetune.ts";
import type { GenerateConfig } from "../pipeline/settings/generate.ts";
import { askForPlace, callerFolder, endInOrder, interruption, isUnprinted, stopOnSignals } from "./host.ts";
import { FELL_SHORT, UNWRITTEN } from "./exit_codes.ts";
import type { Values } from "./options.ts";
import type { Output } from "./output.ts";
import { Progress } from "./progress.ts";

const colour = !Deno.noColor && Deno.stdout.isTerminal();
const bold = (text: string) => colour ? `\x1b[1m${text}\x1b[0m` : text;

async function runFinetune(values: Values, output: Output): Promise<number> {
  const { dry_run: only, json: _, ...config } = values as FinetuneConfig & {
    dry_run?: boolean;
    json?: boolean;
  };
  config.output_dir ??= resolve(callerFolder(), "results");
  if (only) {
    const plan = await dryRun(config, { signal: interruption.signal, baseDir: callerFolder() });
    output.object({ type: "plan", ...plan });
    output.text(dryRunText(plan));
    return 0;
  }
  await stopOnSignals();
  const progress = new Progress(output);
  try {
    const result = await finetune(config, {
      signal: interruption.signal,
      baseDir: callerFolder(),
      onEvent: (event) => {
        progress.show(event);
        if (event.type === "settings") endInOrder(interruption.left);
      },
      onRefused: askForPlace(config.output_dir),
    });
    output.object({ type: "result", ...result });
    output.text("\n" + measurementTable(result.before, result.after) + "\n");
    output.text(bold(verdict(result.before, result.after)));
    output.text(
      `device memory: ${formatBytes(result.peakBytes)} at the peak, ${
        formatBytes(result.plannedBytes)
      } planned; ` +
        `${formatSeconds(result.seconds)} in all, ${result.epochs} epochs${
          result.stoppedEarly ? " (stopped early)" : ""
        }`,
    );
    output.text(`model (to publish): ${result.modelPath}`);
    output.text(`fingerprints (keep secret): ${result.fingerprintsPath}`);
    return 0;
  } catch (error) {
    // What was asked for is there.
    if (!(error instanceof ResultsExistError)) throw error;
    progress.close();
    output.object({ type: "exists", results: error.results });
    output.text(error.message);
    return 0;
  } finally {
    progress.close();
  }
}

async function runCheck(values: Values, output: Output): Promise<number> {
  const { json, min_success_rate: minimum, ...config } = values as CheckConfig & {
    json?: boolean;
    min_success_rate?: number;
  };
  await stopOnSignals();
  const progress = new Progress(output);
  const result = await check(config, {
    signal: interruption.signal,
    baseDir: callerFolder(),
    onDownload: (event) => json || progress.show({ type: "download", progress: event }),
    onGpu: (name) => output.text(`adapter: ${name}`),
    onDropped: (dropped) => !droppedLines(dropped) || output.text(droppedLines(dropped)),
  });
  progress.close();
  if (json) console.log(JSON.stringify(result));
  output.text(checkText(result));
  if (isUnprinted) {
    console.error("error: standard output takes no more: the result is not printed");
    return UNWRITTEN;
  }
  if (typeof minimum === "number" && !(result.success_rate >= minimum)) {
    console.error(`error: the success rate is ${result.success_rate.toFixed(1)} %, below ${minimum} %`);
    return FELL_SHORT;
  }
  return 0;
}

async function runGenerate(values: Values, output: Output): Promise<number> {
  const { json: _, ...config } = values as GenerateConfig & { json?: boolean };
  await stopOnSignals();
  const progress = new Progress(output);
  try {
    const { path, summary, commitmentPath } = await generateFingerprints(
      config,
      {
        signal: interruption.signal,
        baseDir: callerFolder(),
        onEvent: (event) => {
          progress.show(event);
          const how = values.force ? " without --force" : "";
          if (event.type === "gpu") endInOrder(`the same command${how} goes on where it was`);
        },
      },
    );
    progress.close();
    output.object({ type: "result", path, commitmentPath, summary });
    output.text("\n" + summaryText(summary));
    output.text(`fingerprints (keep secret): ${path}`);
    output.text(`what they were made from (keep secret): ${path}.secret`);
    output.text(`commitment (to publish early): ${commitmentPath}`);
    return 0;
  } catch (error) {
    progress.close();
    if (error instanceof NotEnoughFingerprintsError && error.path) {
      output.text("\n" + summaryText(error.summary));
    }
    throw error;
  }
}

/** How each command is run. */
export const RUN: Readonly<
  Record<CommandDescription["name"], (values: Values, output: Output) => Promise<number>>
> = {
  finetune: runFinetune,
  check: runCheck,
  generate: runGenerate,
};
