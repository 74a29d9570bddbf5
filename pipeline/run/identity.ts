import { createHash } from "node:crypto";
import { join } from "node:path";
import { readBytesIfThere } from "../../engine/io/read_file.ts";
import { modelHash } from "../fingerprints/generate/model_hash.ts";
import { finetuneFlags, type FinetuneSettings } from "../settings/finetune.ts";
import { neutralNames } from "../settings/flag.ts";
import { DEFAULT_TEMPLATE } from "../prompts/template_source.ts";

/** Settings that don't change what a run computes. */
const NEUTRAL = neutralNames(finetuneFlags);

/** What decides a model's answers beside its weights and config.json, which `modelHash` has; any may be missing. */
const TEXT_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] as const;
/** Those that few models have; they count where they are. */
const FURTHER_FILES = [
  "added_tokens.json",
  "special_tokens_map.json",
  DEFAULT_TEMPLATE,
  "chat_template.json",
] as const;
const MOST_BYTES = 256 * 2 ** 20;

/** What a model folder is, by its content. */
export interface ModelIdentity {
  /** See {@link modelHash}: config.json and the weights. */
  readonly modelHash: string;
  /** SHA-256, hex, by name of the files between text and token ids; null where there is none. */
  readonly files: Readonly<Record<string, string | null>>;
}

/** Hashes a model folder, in milliseconds. @throws what opening its checkpoint throws. */
export async function identifyModel(dir: string): Promise<ModelIdentity> {
  const files: Record<string, string | null> = {};
  for (const name of TEXT_FILES) {
    files[name] = await hashIfThere(join(dir, name));
  }
  for (const name of FURTHER_FILES) {
    const hash = await hashIfThere(join(dir, name));
    if (hash !== null) files[name] = hash;
  }
  return { modelHash: await modelHash(dir), files };
}

async function hashIfThere(path: string): Promise<string | null> {
  const bytes = await readBytesIfThere(path, { maxBytes: MOST_BYTES });
  return bytes === undefined ? null : createHash("sha256").update(bytes).digest("hex");
}

/**
 * Name of a run: SHA-256 (first 16 hex digits) over its settings, what the model is, and the contents of the fingerprint
 * file (or what its own fingerprints are made of) and of the benign texts' file, if any. Paths don't count, contents do.
 */
export function runHash(
  settings: FinetuneSettings,
  { modelHash, files }: ModelIdentity,
  fingerprintsSha256: string,
  benignSha256: string | null = null,
): string {
  const sorted = (fields: object) => Object.entries(fields).sort(([a], [b]) => a < b ? -1 : 1);
  const counted = sorted(settings).filter(([name]) => !NEUTRAL.includes(name));
  const facts = [counted, modelHash, sorted(files), fingerprintsSha256, benignSha256];
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 16);
}
