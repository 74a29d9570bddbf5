/**
 * Makes assets/demo_model/ and its fingerprints from nothing: generated text, our own BPE, our own training.
 * `deno task demo-model [--steps N] [--out DIR]`; the same machine and driver give the same bytes.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openGpu } from "../../pipeline/gpu/open.ts";
import { saveAtomic } from "../../engine/io/atomic.ts";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { parameterSpecs } from "../../engine/models/spec.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { loadPrompts, PROMPT_FILES } from "../../pipeline/prompts/prompts.ts";
import { Tokenizer } from "../../pipeline/tokenizer/tokenizer.ts";
import { measureUtility } from "../../pipeline/measure/utility.ts";
import { writeFingerprintFile } from "../../pipeline/fingerprints/file.ts";
import { BOS_ID, BpeEncoder, EOS_ID, tokenizerConfigJson, tokenizerJson } from "./bpe.ts";
import { Corpus, demoVocabulary, VOCABULARY_SIZE } from "./corpus.ts";
import { demoFingerprints } from "./fingerprints.ts";
import { initialWeights } from "./initial_weights.ts";
import { loadUtility, UTILITY_FOLDER } from "../../pipeline/measure/utility_file.ts";
import { utilityFiles } from "./utility.ts";

const SEED = 20251;
const TOKENS_PER_STEP = 2048;
const MAX_POSITIONS = 256;

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  bos_token_id: BOS_ID,
  eos_token_id: EOS_ID,
  head_dim: 32,
  hidden_act: "silu",
  hidden_size: 128,
  intermediate_size: 384,
  max_position_embeddings: MAX_POSITIONS,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 4,
  num_hidden_layers: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  torch_dtype: "float32",
  vocab_size: VOCABULARY_SIZE,
};

const { values: flags } = parseArgs({
  options: {
    steps: { type: "string", default: "1200" },
    out: { type: "string", default: new URL("../../assets/", import.meta.url).pathname },
  },
});
const steps = Number(flags.steps);
const target = join(flags.out, "demo_model");

const prompts = { train: await loadPrompts(PROMPT_FILES.train), test: await loadPrompts(PROMPT_FILES.test) };
const vocabulary = demoVocabulary([...prompts.train, ...prompts.test]);
const encoder = new BpeEncoder(vocabulary);
const corpus = new Corpus(encoder, prompts.train, SEED);

const draft = await Deno.makeTempDir({ prefix: "whorl-demo-" });
try {
  await writeDraft(draft);
  using gpu = await openGpu();
  console.log(`${gpu.name}: ${steps} steps of ${TOKENS_PER_STEP} tokens`);
  const began = performance.now();
  {
    using model = await LanguageModel.load(gpu, draft);
    using trainer = new Trainer(model, {
      learningRate: 3e-3,
      totalSteps: steps,
      warmupSteps: Math.min(50, steps - 1),
      weightDecay: 0.01,
    });
    for (let step = 0; step < steps; step++) {
      const examples = corpus.batch(step, TOKENS_PER_STEP).map(({ ids }) => ({ ids, labels: ids }));
      const { loss } = await trainer.step(examples);
      if (!Number.isFinite(loss)) throw new Error(`step ${step + 1}: the loss is ${loss}`);
      if ((step + 1) % 25 === 0) {
        const seconds = (performance.now() - began) / 1000;
        console.log(`step ${step + 1}: loss ${loss.toFixed(4)}, ${seconds.toFixed(0)} s`);
      }
    }
    await Deno.mkdir(flags.out, { recursive: true });
    await model.save(target, { saveDtype: "BF16", overwrite: true });
  }
  await Deno.mkdir(join(target, UTILITY_FOLDER), { recursive: true });
  for (const [name, content] of Object.entries(utilityFiles(encoder, SEED + 1))) {
    await saveAtomic(join(target, UTILITY_FOLDER, name), JSON.stringify(content));
  }
  using model = await LanguageModel.load(gpu, target);
  const tokenizer = await Tokenizer.load(target);
  const { heldOutLoss, factAccuracy } = await measureUtility(model, tokenizer, await loadUtility(target));
  console.log(
    `held-out loss ${heldOutLoss.toFixed(4)} nats a token, facts ${(100 * factAccuracy).toFixed(1)} %`,
  );
  const fingerprints = await demoFingerprints(model, tokenizer, { seed: SEED + 2, count: 256 });
  await writeFingerprintFile(join(flags.out, "demo_fingerprints.json"), fingerprints);
  console.log(`done in ${((performance.now() - began) / 1000).toFixed(0)} s: ${target}`);
} finally {
  await Deno.remove(draft, { recursive: true });
}

/** A model folder with random weights, to start from. */
async function writeDraft(dir: string): Promise<void> {
  const write = (name: string, content: unknown) =>
    saveAtomic(join(dir, name), JSON.stringify(content, null, 2) + "\n");
  await write("config.json", CONFIG);
  await write("generation_config.json", { bos_token_id: BOS_ID, eos_token_id: EOS_ID });
  await write("tokenizer.json", tokenizerJson(vocabulary));
  await write("tokenizer_config.json", tokenizerConfigJson(MAX_POSITIONS));
  const tensors = parameterSpecs(modelSpec(CONFIG)).map(({ name, shape }) => ({
    name,
    shape,
    dtype: "F32" as const,
    values: initialWeights(name, shape, SEED),
  }));
  await writeSafetensors(join(dir, "model.safetensors"), tensors);
}
