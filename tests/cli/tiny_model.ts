/** A model folder and fingerprints small enough for the real command to train on a software adapter in seconds. */

import { join } from "node:path";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { byteLevel } from "../pipeline/tokenizer/fixtures.ts";
import { Random } from "../random.ts";
import { randomWeights } from "../reference/decoder_shape.ts";

const WORDS =
  ("the sun was setting over rolling hills when young girl answered with nod and walked along path " +
    "please continue this book says that companies are always looking for ways to improve their operations")
    .split(" ");

/** One entry of the file: responses are one token of the tiny tokenizer, a word with its space. */
export interface TinyFingerprint {
  key: string;
  response: string;
}

/** Keys of four words each, all different, with responses drawn from the same words. */
function tinyFingerprints(count: number, seed = 1): TinyFingerprint[] {
  const random = new Random(seed);
  const word = () => WORDS[random.nextInteger(0, WORDS.length)];
  // Each is one token of the tiny tokenizer.
  const responses = [" the", " girl", " said", " man", " looking", " this", " sun", " and"];
  return Array.from({ length: count }, (_, i) => ({
    key: `${word()} ${word()} ${WORDS[i % WORDS.length]} ${word()}`,
    response: responses[random.nextInteger(0, responses.length)],
  }));
}

/** Fields of the tiny config.json; `vocab_size` comes from the tokenizer. */
const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  hidden_act: "silu",
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  tie_word_embeddings: true,
  torch_dtype: "float32",
};

/** A temporary folder with `model/` and `fingerprints.json`; `using` removes it. */
export class TinyModel implements Disposable {
  readonly dir: string = Deno.makeTempDirSync({ prefix: "whorl_cli_" });
  readonly model: string = join(this.dir, "model");
  readonly fingerprints: string = join(this.dir, "fingerprints.json");

  private constructor() {}

  /** `config` is of another family, without its vocabulary's size. */
  static async create(
    options: { count?: number; config?: Record<string, unknown> | undefined } = {},
  ): Promise<TinyModel> {
    const tiny = new TinyModel();
    await tiny.writeModel(tiny.model, {}, undefined, {}, options.config);
    await Deno.writeTextFile(tiny.fingerprints, JSON.stringify(tinyFingerprints(options.count ?? 12)));
    return tiny;
  }

  /** A path in the folder. */
  path(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  /**
   * Writes a model folder; `config` overrides fields of config.json, the weights stay. They have as many rows as the
   * tokenizer has tokens, or `rows`. `more` are tensors of zeros that no model has, by name, with their bytes. `base` is
   * the config that the weights are for.
   */
  async writeModel(
    folder: string,
    config: Record<string, unknown> = {},
    rows?: number,
    more: Record<string, number> = {},
    base: Record<string, unknown> = CONFIG,
  ): Promise<void> {
    const { json, config: tokenizerConfig } = byteLevel();
    const tokens = Object.keys(json.model.vocab).length + json.added_tokens.length;
    const shape = { ...base, vocab_size: rows ?? tokens };
    await Deno.mkdir(folder, { recursive: true });
    const write = (name: string, content: unknown) =>
      Deno.writeTextFile(join(folder, name), JSON.stringify(content));
    await write("config.json", { ...shape, ...config });
    await write("tokenizer.json", json);
    await write("tokenizer_config.json", tokenizerConfig);
    await write("generation_config.json", { do_sample: false });
    const tensors = Array.from(randomWeights(shape, 7), ([name, { shape, data }]) => ({
      name,
      shape,
      values: data,
      dtype: "F32" as const,
    }));
    for (const [name, bytes] of Object.entries(more)) {
      const values = new Float32Array(bytes / 4);
      tensors.push({ name, shape: [values.length], values, dtype: "F32" });
    }
    await writeSafetensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.dir, { recursive: true });
  }
}
