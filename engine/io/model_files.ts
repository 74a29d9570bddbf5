/**
 * Which files belong to a model beside its weights: what save_pretrained of Hugging Face Transformers writes, what
 * its loaders ask for, and the papers that go with a model. Pure data and names; nothing is read here.
 * @module
 */

/** Names at a folder's top level. */
const TOP_LEVEL: readonly RegExp[] = [
  // Configuration.
  /^(?:config|generation_config|configuration)\.json$/,
  // Tokenizers of every kind: fast, BPE, WordPiece, SentencePiece, tiktoken, Mistral's own.
  /^(?:tokenizer|tokenizer_config|special_tokens_map|added_tokens|normalizer|encoder|tekken)\.json$/,
  /^vocab\.[\w-]+$/,
  /^(?:merges\.txt|bpe\.codes)$/,
  /^(?:[\w-]+\.)*(?:tokenizer|spiece|sentencepiece|sp|spm|bpe|tiktoken|vocab|unigram)[\w.-]*\.model(?:\.v\d[\w.-]*)?$/,
  /^tokenizer\.model(?:\.v\d[\w.-]*)?$/,
  /^[\w.-]+\.tiktoken$/,
  /^(?:source|target)\.spm$/,
  // Templates and processors.
  /^chat_template\.(?:jinja|json)$/,
  /^(?:(?:image_|video_|audio_)?(?:pre)?processor(?:_config)?|feature_extractor_config)\.json$/,
  // What a model is and may be used for.
  /^(?:readme|model_?card|citation|authors|credits)(?:[\w.-]*)?\.(?:md|txt|rst|cff|bib)$/i,
  /^(?:readme|notice|copying|authors|credits)$/i,
  /^[\w .-]*licen[sc]e[\w .-]*$/i,
  /^(?:[\w-]*notices?|copying|[\w-]*use[_-]?policy|acceptable[_-]?use[\w-]*|terms(?:[_-]of[_-]use)?)(?:\.(?:md|txt|rst|pdf|html))?$/i,
];

/** Names in sub-folders, by folder. */
const SUB_FOLDERS: Readonly<Record<string, RegExp>> = {
  // Named chat templates, as save_pretrained writes them.
  "additional_chat_templates": /^[\w.-]+\.jinja$/,
  // A decoding loop of the model's own, which generate() of Transformers loads.
  "custom_generate": /^(?:[\w-]+\.py|requirements\.txt|README\.md)$/,
};

/** A licence in name only: what a person or a program keeps in such files is not for others. */
const NEVER =
  /\.(?:pem|key|crt|pfx|p12|env|secret|partial|tmp|bak|old|orig|swp|lock|db|sqlite|log|zip|tar|gz|7z)$/i;

/** Whether a path in a model's folder, with `/`, is of a file that belongs to it. @param modules see {@link autoMapModules} */
export function belongsToModel(path: string, modules: ReadonlySet<string> = new Set()): boolean {
  const parts = path.split("/");
  if (parts.some((part) => part.startsWith(".") || part === "") || NEVER.test(path)) return false;
  if (modules.has(path)) return true;
  if (parts.length === 1) return TOP_LEVEL.some((form) => form.test(path));
  const [folder = "", name = "", ...deeper] = parts;
  const form = Object.hasOwn(SUB_FOLDERS, folder) ? SUB_FOLDERS[folder] : undefined;
  return deeper.length === 0 && form !== undefined && form.test(name);
}

/** Sub-folders that have files of a model. */
export const MODEL_SUB_FOLDERS: readonly string[] = Object.keys(SUB_FOLDERS);

/** Configurations that may name code of the model's own. */
export const AUTO_MAP_FILES = [
  "config.json",
  "tokenizer_config.json",
  "generation_config.json",
  "processor_config.json",
  "preprocessor_config.json",
] as const;

/** The Python files that the `auto_map` of a configuration names: "modeling_x.Class", or a list of such, in this folder. */
export function autoMapModules(config: unknown): string[] {
  const map = (config as { auto_map?: unknown } | null)?.auto_map;
  const names = typeof map === "object" && map !== null ? Object.values(map).flat() : [];
  return names.flatMap((name) => {
    // "org/name--module.Class" is code of another repository.
    const [, module] = /^([A-Za-z_]\w*)\.[A-Za-z_]\w*$/.exec(String(name)) ?? [];
    return module ? [`${module}.py`] : [];
  });
}

/** The Python files beside it that a Python file imports. */
export function relativeImports(source: string): string[] {
  const froms = source.matchAll(/^[ \t]*from[ \t]+\.([A-Za-z_]\w*)[ \t]+import\b/gm);
  const bare = source.matchAll(/^[ \t]*(?:from[ \t]+\.[ \t]+import|import[ \t]+\.)[ \t]*([A-Za-z_]\w*)/gm);
  return [...froms, ...bare].map(([, module]) => `${module}.py`);
}

/** Why files of a kind aren't carried over, by name; none for what is merely not on the list. */
export function unloadable(name: string): string | undefined {
  return UNLOADABLE.find(([form]) => form.test(name))?.[1];
}

const UNLOADABLE: readonly (readonly [RegExp, string])[] = [
  [/^adapter_(?:config\.json|model\.)/, "an adapter's, which this model isn't"],
  [
    /\.(?:safetensors|bin|gguf|ggml|h5|msgpack|onnx|onnx_data|pt|pth|ckpt|tflite|ot|npz|mlpackage|engine)(?:\.index\.json)?$|\.index\.json$/,
    "weights in another form, which are not the new ones",
  ],
  [
    /^(?:quant\w*_config|hf_quant_config)\.json$|^kv_cache_scales/,
    "of quantised weights, which these are not",
  ],
  [/^(?:trainer_state|training_args|optimizer|scheduler|rng_state|scaler)/, "a trainer's state"],
];
