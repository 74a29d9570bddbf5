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
import { askForPlace, callerFolder, interruption, isUnprinted, stopOnSignals } from "./host.ts";
import type { Values } from "./options.ts";
import { Progress } from "./progress.ts";

const colour = !Deno.noColor && Deno.stdout.isTerminal();
const bold = (text: string) => colour ? `\x1b[1m${text}\x1b[0m` : text;

async function runFinetune(values: Values): Promise<number> {
  const { dry_run: only, ...config } = values as FinetuneConfig & { dry_run?: boolean };
  config.output_dir ??= resolve(callerFolder(), "results");
  if (only) {
    console.log(dryRunText(await dryRun(config, { signal: interruption.signal, baseDir: callerFolder() })));
    return 0;
  }
  stopOnSignals();
  const progress = new Progress();
  try {
    const result = await finetune(config, {
      signal: interruption.signal,
      baseDir: callerFolder(),
      onEvent: (event) => progress.show(event),
      onRefused: askForPlace(config.output_dir),
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
  const { json, min_success_rate: minimum, ...config } = values as CheckConfig & {
    json?: boolean;
    min_success_rate?: number;
  };
  stopOnSignals();
  const progress = new Progress();
  const result = await check(config, {
    signal: interruption.signal,
    baseDir: callerFolder(),
    onDownload: (event) => json || progress.show({ type: "download", progress: event }),
    onGpu: (name) => json || console.log(`adapter: ${name}`),
    onDropped: (dropped) => json || !droppedLines(dropped) || console.log(droppedLines(dropped)),
  });
  progress.close();
  console.log(json ? JSON.stringify(result) : checkText(result));
  if (isUnprinted) throw new Error("standard output takes no more: the result is not printed");
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
    const { path, summary, commitmentPath } = await generateFingerprints(
      values as GenerateConfig,
      {
        signal: interruption.signal,
        baseDir: callerFolder(),
        onEvent: (event) => {
          progress.show(event);
          const how = values.force ? " without --force" : "";
          if (event.type === "gpu") interruption.left = `the same command${how} goes on where it was`;
        },
      },
    );
    progress.close();
    console.log("\n" + summaryText(summary));
    console.log(`fingerprints (keep secret): ${path}`);
    console.log(`what they were made from (keep secret): ${path}.secret`);
    console.log(`commitment (to publish early): ${commitmentPath}`);
    return 0;
  } catch (error) {
    progress.close();
    if (error instanceof NotEnoughFingerprintsError && error.path) {
      console.log("\n" + summaryText(error.summary));
    }
    throw error;
  }
}

/** How each command is run. */
export const RUN: Readonly<Record<CommandDescription["name"], (values: Values) => Promise<number>>> = {
  finetune: runFinetune,
  check: runCheck,
  generate: runGenerate,
};
