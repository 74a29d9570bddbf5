/**
 * The commands: what each takes, and what it says of itself.
 * @module
 */
import { z } from "zod";
import { checkFlags } from "./check.ts";
import { finetuneFlags } from "./finetune.ts";
import { type Flag, flag, FLAG_GROUPS, flagsOf } from "./flag.ts";
import { generateFlags } from "./generate.ts";

/** A command of the command line. */
export interface CommandDescription {
  name: "finetune" | "check" | "generate";
  summary: string;
  /** By group, in the order of {@linkcode FLAG_GROUPS}. */
  flags: readonly Flag[];
  /** What of the system it asks for, by Deno's names of `--allow-sys`. */
  sys: readonly string[];
  /** What a person would type, and what for. */
  examples: readonly { what: string; command: string }[];
}

/** By group, else in their order. */
function byGroup(shape: Readonly<Record<string, z.ZodType>>): Flag[] {
  const flags = flagsOf(shape);
  return FLAG_GROUPS.flatMap((group) => flags.filter((flag) => flag.group === group));
}

const jsonEvents = flag(z.boolean().default(false), {
  group: "Output",
  help: "print JSON Lines, an object an event, the result last; text goes to stderr",
});

/** Every command, in the order of their use in a first try. Flags that no configuration has are the command's own. */
export const COMMANDS: readonly CommandDescription[] = [
  {
    name: "finetune",
    summary: "Embeds fingerprints into a model (without --model_path: into the demo model) and checks it.",
    flags: byGroup({
      ...finetuneFlags,
      dry_run: flag(z.boolean().default(false), {
        group: "Device and memory",
        help:
          "only print the plan: memory by part, settings, where results would go; of a model on the Hub by " +
          "config.json alone",
      }),
      json: jsonEvents,
    }),
    // Free memory; who holds a lock; free space.
    sys: ["systemMemoryInfo", "hostname", "statfs"],
    examples: [
      { what: "64 fingerprints into the demo model", command: "./whorl finetune" },
      {
        what: "what your own model would take",
        command: "./whorl finetune --model_path path/to/model --dry_run",
      },
    ],
  },
  {
    name: "check",
    summary: "Asks a model every fingerprint and gives the success rate.",
    flags: byGroup({
      ...checkFlags,
      json: flag(z.boolean().default(false), {
        group: "Output",
        help: "print one JSON object, text to stderr",
      }),
      min_success_rate: flag(z.number().optional(), {
        group: "Output",
        help: "exit with 5 when the success rate (per cent) is below",
      }),
    }),
    sys: [],
    examples: [
      {
        what: "a model that finetune wrote; its fingerprints lie beside it",
        command: "./whorl check --model_path results/HASH/final_model",
      },
      {
        what: "anybody's model, a line a question",
        command:
          "./whorl check --model_path org/name \\\n    --fingerprints_file_path fingerprints.json --verbose",
      },
    ],
  },
  {
    name: "generate",
    summary: "Makes fingerprints for a model and writes them to a file.",
    flags: byGroup({ ...generateFlags, json: jsonEvents }),
    sys: ["hostname", "statfs"],
    examples: [
      { what: "256 fingerprints for the demo model", command: "./whorl generate --num_fingerprints 256" },
      {
        what: "for your own, by a writer of its own",
        command:
          "./whorl generate --model_path path/to/model \\\n    --model_used_for_key_generation org/name",
      },
    ],
  },
];

/** Flags of OML 1.0 and its successor that have no counterpart, and what to do instead. */
export const UNSUPPORTED_FLAGS: Readonly<Record<string, string>> = {
  wandb_run_name:
    "no service is told of a run: its losses are in results/<hash>/log.jsonl, its settings and " +
    "measurements in config.json beside it",
  deepspeed_stage:
    "there is no DeepSpeed: a run chooses a layout that fits one device's memory by itself (--max_memory " +
    "says how much it may take, --dry_run what it would)",
  data_split:
    "files are not split: give one with the fingerprints that you want as --fingerprints_file_path, " +
    "of which --num_fingerprints takes the first",
  verbose_eval: "the command check with --verbose prints a line a question",
  local_rank: "a run is one process on one device, started without a launcher: leave this out",
};
