import assert from "node:assert/strict";
import { join } from "node:path";
import { JsonFileError } from "../../../engine/io/json.ts";
import { findResults } from "../../../pipeline/measure/found_results.ts";
import { refuseOrRead } from "../../json_fuzz.ts";

Deno.test("results: a config.json beside a model that isn't a run's is named with the field", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const model = join(dir, "final_model");
    const path = join(dir, "config.json");
    await Deno.mkdir(model);
    await Deno.mkdir(join(dir, "secret"));
    await Deno.writeTextFile(join(dir, "secret", "fingerprints.json"), "[]");
    const find = async (content: string) => {
      await Deno.writeTextFile(path, content);
      return await findResults(model);
    };
    assert.deepEqual((await findResults(model))?.settings, {});
    const settings = { max_key_length: 16, seed: 3, use_chat_template: true, keep_eos_in_response: false };
    const config = { settings: { ...settings, learning_rate: 1 }, fingerprintsSha256: "ab", measured: [1] };
    const found = await find(JSON.stringify(config));
    assert.deepEqual([found?.settings, found?.fingerprintsSha256], [settings, "ab"]);
    const cases: [string, RegExp][] = [
      ["null", /config\.json: content: expected object, found null/],
      ["", /config\.json: expected JSON, found an empty file/],
      ["{", /config\.json: not valid JSON at line 1 column 2/],
      [
        '{"settings":{"seed":"x"}}',
        /config\.json: settings\.seed: expected number, found "x" \(line 1 column 21\)/,
      ],
    ];
    for (const [content, message] of cases) await assert.rejects(find(content), message);
    assert.ok(
      await refuseOrRead(config, path, [JsonFileError], (mutant) => find(JSON.stringify(mutant))) > 30,
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
