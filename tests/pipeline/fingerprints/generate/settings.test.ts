import assert from "node:assert/strict";
import type { GenerateConfig } from "../../../../pipeline/settings/generate.ts";
import { SettingsError } from "../../../../pipeline/settings/parse.ts";
import {
  resolveGenerateSettings,
  responseLimit,
} from "../../../../pipeline/fingerprints/generate/settings.ts";

Deno.test("settings: OML 1.0's ways to name a strategy are one", () => {
  const cases: [GenerateConfig, string, string, string, number][] = [
    [{}, "perinucleus", "english", "nucleus", 1],
    [{ key_response_strategy: "perinucleus" }, "perinucleus", "english", "nucleus", 1],
    [{ key_response_strategy: "inverse_nucleus" }, "inverse_nucleus", "english", "nucleus", 1],
    [{ key_response_strategy: "independent" }, "english", "english", "english", 16],
    [{ random_word_generation: true }, "random_word", "words", "words", 16],
    [
      { random_word_generation: true, key_response_strategy: "independent" },
      "random_word",
      "words",
      "words",
      16,
    ],
    [
      { random_word_generation: true, key_response_strategy: "perinucleus" },
      "perinucleus",
      "words",
      "nucleus",
      1,
    ],
    [{ fingerprint_generation_strategy: "english" }, "english", "english", "english", 16],
    [
      { fingerprint_generation_strategy: "english_random_responses" },
      ...["english_random_response", "english", "words"] as const,
      1,
    ],
    [{ keys_path: "k.json" }, "perinucleus", "file", "nucleus", 1],
    [{ keys_path: "k.json", key_response_strategy: "independent" }, "english", "file", "english", 16],
    [{ response_length: 7 }, "perinucleus", "english", "nucleus", 7],
  ];
  for (const [config, strategy, keys, responses, length] of cases) {
    const found = resolveGenerateSettings(config);
    assert.deepEqual(
      [found.fingerprint_generation_strategy, found.keys, found.responses, found.response_length],
      [strategy, keys, responses, length],
      JSON.stringify(config),
    );
  }
});

Deno.test("settings: what is unknown, out of range or contradictory is refused by name", () => {
  const cases: [unknown, RegExp][] = [
    [{ fingerprint_generation_strategy: "englisch" }, /^fingerprint_generation_strategy: .*english/],
    [{ key_response_strategy: "random" }, /^key_response_strategy: .*independent/],
    [{ first_token_strategy: "letter" }, /^first_token_strategy: .*tokenizer/],
    [{ nucleus_k: 0 }, /^nucleus_k: .*>=1$/],
    [{ nucleus_k: 2.5 }, /^nucleus_k: .*int/],
    [{ nucleus_t: 1 }, /^nucleus_t: .*<1$/],
    [{ nucleus_t: -0.1 }, /^nucleus_t: .*>=0$/],
    [{ nucleus_t: NaN }, /^nucleus_t: /],
    [{ temperature: -1 }, /^temperature: .*>=0$/],
    [{ key_length: 0, response_length: 0 }, /^key_length: .*\nresponse_length: .*>=1$/],
    [{ num_fingerprints: 0 }, /^num_fingerprints: .*>=1$/],
    [{ max_response_share: 0 }, /^max_response_share: .*>0$/],
    [{ seed: -1 }, /^seed: .*>=0$/],
    [{ nucleus_q: 0.5 }, /^unknown setting: nucleus_q$/],
    [
      { num_responses_per_fingerprint: 4 },
      /^nucleus_k: expected at least the 4 responses of a key, found 3$/,
    ],
    [
      { fingerprint_generation_strategy: "english", num_responses_per_fingerprint: 2 },
      /^num_responses_per_fingerprint: english has one response, found 2 \(perinucleus has several\)$/,
    ],
    [
      { fingerprint_generation_strategy: "english", key_response_strategy: "perinucleus" },
      /strategy english and key_response_strategy perinucleus contradict each other$/,
    ],
    [
      { fingerprint_generation_strategy: "perinucleus", key_response_strategy: "inverse_nucleus" },
      /contradict each other$/,
    ],
    [
      { fingerprint_generation_strategy: "english", random_word_generation: true },
      /^random_word_generation: english has english keys/,
    ],
    [
      { random_word_generation: true, perinucleus_model: "m" },
      /^perinucleus_model: random_word draws no responses from a model's distribution$/,
    ],
  ];
  for (const [config, expected] of cases) {
    assert.throws(() => resolveGenerateSettings(config as GenerateConfig), (error) => {
      assert.ok(error instanceof SettingsError, `${error}`);
      assert.match(error.message, expected, JSON.stringify(config));
      return true;
    });
  }
});

Deno.test("settings: 8 responses may always begin alike, then the share", () => {
  assert.deepEqual([16, 400, 1024, 8192].map((count) => responseLimit(0.02, count)), [8, 8, 20, 163]);
  assert.equal(responseLimit(1, 24), 24);
});
