/**
 * Writes a Hugging Face folder with the shape of a published model and random weights, for timing and memory.
 *
 *     deno run -A bench/random_checkpoint.ts --shape llama-3.2-1b --out DIR
 *   --layers N        cut down to so many blocks
 *   --dtype TYPE      BF16 (default), F16 or F32
 *   --seed N          the same seed gives the same bytes (default 1)
 *   --tokenizer DIR   also copies the tokenizer of that folder, so that text can be trained
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { replaceFile } from "../engine/io/atomic.ts";
import { configWithDtype } from "../engine/io/model_dir.ts";
import { PIECE_BYTES } from "../engine/io/safetensors.ts";
import { layOutFiles, tensorBytes, writeWeightFiles } from "../engine/io/weight_files.ts";
import { modelSpec } from "../engine/models/families.ts";
import { parameterSpecs } from "../engine/models/spec.ts";
import {
  bytesOf,
  dtypeBytes,
  FLOAT_DTYPES,
  type FloatDtype,
  isFloatDtype,
  narrow,
} from "../engine/tensor/dtype.ts";
import { MODEL_SHAPES } from "./model_shapes.ts";

/** What {@link writeRandomModel} writes. */
interface RandomModelOptions {
  seed: number;
  dtype: FloatDtype;
  /** As of `writeCheckpoint`. */
  maxFileBytes?: number;
}

/**
 * Writes config.json and the weights of a model into a new or empty folder, in a few MiB of memory. Matrices are noise
 * of deviation 1/√in, uniform and of 2¹⁶ values; biases have deviation 0.02; norms do nothing.
 */
export async function writeRandomModel(
  dir: string,
  config: Readonly<Record<string, unknown>>,
  { seed, dtype, maxFileBytes }: RandomModelOptions,
): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  if ((await Array.fromAsync(Deno.readDir(dir))).length) throw new Error(`${dir} is not empty`);
  await Deno.writeTextFile(
    join(dir, "config.json"),
    configWithDtype(JSON.stringify(config, null, 2) + "\n", dtype),
  );
  const spec = modelSpec(config);
  const tensors = parameterSpecs(spec).map(({ name, shape }, index) => ({ name, shape, dtype, index }));
  const files = layOutFiles(tensors, { format: "pt" }, maxFileBytes);
  const buffer = new ArrayBuffer(PIECE_BYTES);
  await writeWeightFiles(dir, files, async (tensor, append) => {
    const { name, shape, index } = tensor;
    const norm = shape.length === 1 && !name.endsWith(".bias");
    const [center, deviation] = norm
      ? [1 - spec.norm.offset, 0]
      : [0, shape.length === 1 ? 0.02 : 1 / Math.sqrt(shape[1])];
    const fill = noise(
      dtype,
      center,
      deviation,
      Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b),
    );
    for (let left = tensorBytes(tensor); left > 0; left -= PIECE_BYTES) {
      const piece = wordsOf(dtype, buffer, Math.min(left, PIECE_BYTES) / dtypeBytes(dtype));
      fill(piece);
      await append(bytesOf(piece));
    }
  });
}

type Words = Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

function wordsOf(dtype: FloatDtype, buffer: ArrayBuffer, count: number): Words {
  return dtype === "F32" ? new Uint32Array(buffer, 0, count) : new Uint16Array(buffer, 0, count);
}

/** Gives a function that fills arrays, one after the other, with stored numbers: two of a table for 32 random bits. */
function noise(dtype: FloatDtype, center: number, deviation: number, seed: number): (words: Words) => void {
  const reach = deviation * Math.sqrt(3);
  const values = Float32Array.from({ length: 65536 }, (_, i) => center + reach * ((i + 0.5) / 32768 - 1));
  const bytes = new Uint8Array(narrow(dtype, values));
  const table = wordsOf(dtype, bytes.buffer, 65536);
  // xorshift never leaves 0.
  let state = seed || 1;
  return (words) => {
    for (let i = 0; i < words.length; i += 2) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[i] = table[state & 0xffff];
      words[i + 1] = table[state >>> 16];
    }
  };
}

const TOKENIZER_FILES =
  /^(tokenizer.*|vocab\..*|merges\.txt|added_tokens\.json|special_tokens_map\.json|chat_template.*)$/;

/** Copies the files that make a folder's tokenizer. */
export async function copyTokenizer(from: string, to: string): Promise<void> {
  const names = (await Array.fromAsync(Deno.readDir(from))).map(({ name }) => name);
  if (!names.includes("tokenizer.json")) throw new Error(`${from} has no tokenizer.json`);
  for (const name of names.filter((name) => TOKENIZER_FILES.test(name))) {
    const content = await Deno.readFile(join(from, name));
    await replaceFile(join(to, name), (append) => append(content));
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      shape: { type: "string" },
      out: { type: "string" },
      layers: { type: "string" },
      dtype: { type: "string", default: "BF16" },
      seed: { type: "string", default: "1" },
      tokenizer: { type: "string" },
    },
  });
  const fail = (text: string): never => {
    console.error(text);
    Deno.exit(2);
  };
  const whole = (flag: string, text: string) => {
    return /^[1-9]\d*$/.test(text) ? Number(text) : fail(`--${flag}: expected a whole number, found ${text}`);
  };
  const { dtype, out, shape = "" } = values;
  if (!Object.hasOwn(MODEL_SHAPES, shape)) {
    fail(`--shape: expected one of ${Object.keys(MODEL_SHAPES).join(", ")}, found ${shape || "nothing"}`);
  }
  if (!out) fail("--out: expected a new folder, found nothing");
  if (!isFloatDtype(dtype)) fail(`--dtype: expected one of ${FLOAT_DTYPES.join(", ")}, found ${dtype}`);
  const cut = values.layers ? { num_hidden_layers: whole("layers", values.layers) } : {};
  await writeRandomModel(out!, { ...MODEL_SHAPES[shape], ...cut }, {
    seed: whole("seed", values.seed),
    dtype: dtype as FloatDtype,
  });
  if (values.tokenizer) await copyTokenizer(values.tokenizer, out!);
}
