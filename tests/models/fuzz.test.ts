/** A config.json with one value of another kind is read, or refused by its name. */
import assert from "node:assert/strict";
import { ConfigError } from "../../engine/models/config.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { refuseOrRead } from "../json_fuzz.ts";

const SCALING = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

for (const family of ["llama", "gemma2", "gpt_neox", "phi", "phi3_longrope", "qwen3"]) {
  Deno.test(`fuzz: config.json of ${family}`, async () => {
    const path = new URL(`../golden/${family}/config.json`, import.meta.url);
    const config = JSON.parse(await Deno.readTextFile(path));
    const json = family === "llama" ? { ...config, rope_scaling: SCALING } : config;
    const read = (mutant: unknown) => modelSpec((mutant ?? {}) as Record<string, unknown>);
    assert.ok(await refuseOrRead(json, "config.json", [ConfigError], read) > 100);
  });
}
