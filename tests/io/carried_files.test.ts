import assert from "node:assert/strict";
import { join } from "node:path";
import { findCarried } from "../../engine/io/carried_files.ts";
import { belongsToModel } from "../../engine/io/model_files.ts";
import { holdsFingerprints } from "../../engine/io/secret_content.ts";
import { fill, withFolder } from "./support.ts";

const isWindows = Deno.build.os === "windows";

/** What is carried over, and what isn't by its reason. */
async function carried(dir: string, weights: string[] = ["model.safetensors"]) {
  const { carried, left } = await findCarried(dir, weights);
  return {
    carried: carried.map(({ name }) => name),
    left: Object.fromEntries(left.map((file) => [file.name, file.reason])),
  };
}

Deno.test("what save_pretrained and Hub repositories have belongs to a model", () => {
  const belongs = [
    ...[
      "config.json",
      "generation_config.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "added_tokens.json",
    ],
    ...[
      "special_tokens_map.json",
      "vocab.json",
      "vocab.txt",
      "vocab.bpe",
      "merges.txt",
      "tokenizer.model",
      "tekken.json",
    ],
    ...["spiece.model", "sentencepiece.bpe.model", "tokenizer.model.v3", "qwen.tiktoken", "tiktoken.model"],
    ...["chat_template.jinja", "chat_template.json", "additional_chat_templates/tool_use.jinja"],
    ...["preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"],
    ...[
      "README.md",
      "LICENSE",
      "LICENSE.txt",
      "NOTICE",
      "Notice.txt",
      "USE_POLICY.md",
      "MODEL_CARD.md",
      "COPYING",
    ],
    ...[
      "LICENSE-MODEL",
      "llama_license.md",
      "THIRD_PARTY_NOTICES.txt",
      "custom_generate/generate.py",
      "CITATION.cff",
    ],
  ];
  for (const name of belongs) assert.ok(belongsToModel(name), name);
  const others = [
    ...[
      "notes.txt",
      "notes.md",
      ".env",
      ".git/config",
      "id_rsa",
      "fingerprints.json",
      "fingerprints.json.secret",
    ],
    ...[
      "vocab.json.partial",
      "LICENSE.key",
      "license.pem",
      "modeling_x.py",
      "original/params.json",
      "params.json",
    ],
    ...[
      "additional_chat_templates/.x.jinja",
      "additional_chat_templates/a/b.jinja",
      "additional_chat_templates/x.json",
    ],
    ...[
      "adapter_config.json",
      "training_args.bin",
      "trainer_state.json",
      "optimizer.pt",
      "model.gguf",
      "recipe.yaml",
    ],
    ...[
      "pytorch_model.bin.index.json",
      "quantize_config.json",
      "config.json.bak",
      "../config.json",
      "secret/README.md",
    ],
    ...["README.md.tmp", "log.jsonl", "train.log", "constructor", "__proto__/x"],
  ];
  for (const name of others) assert.ok(!belongsToModel(name), name);
});

Deno.test("fingerprints are told by their content, in every form, whole or torn", async () => {
  await withFolder(async (dir) => {
    const entry = { key: "k", response: "r", key_ids: [1], response_ids: [2] };
    const secret = {
      seed: null,
      secret: "ab".repeat(32),
      draw_key: "cd".repeat(32),
      draw_commitment: "ef".repeat(32),
    };
    const kept = {
      list: JSON.stringify([entry]),
      lines: `[\n${JSON.stringify(entry)},\n${JSON.stringify(entry)}\n]\n`,
      torn: `[\n${JSON.stringify(entry).slice(0, 30)}`,
      bom: `\uFEFF[ ${JSON.stringify(entry)}]`,
      signature: JSON.stringify([{ id: 3, key: "k", signature: ["s"] }]),
      query: JSON.stringify([{ id: 3, query: "k", response: "r" }]),
      python: '[{"id": 3, "key": "k", "response": "r", "response_prob": NaN}]',
      opening: JSON.stringify({ entry: { commitment: "whorl set 1", key_ids: [1] }, salt: "00", path: [] }),
      numbered_journal: `${
        JSON.stringify({ journal: "whorl generate 2", replaces: false, run: {}, line: 1 })
      }\n`,
      strings: JSON.stringify(["a key", "another"]),
      wrapped: JSON.stringify({ fingerprints: [entry] }),
      wrapped_late: JSON.stringify({ about: "x".repeat(2 ** 17), fingerprints: [entry] }),
      secret: JSON.stringify(secret, null, 2),
      torn_secret: JSON.stringify(secret, null, 2).slice(0, 40),
      journal: `${JSON.stringify({ journal: "whorl generate 1", run: {} })}\n`,
      json_lines: `${JSON.stringify({ entry: 1, ...entry })}\n${JSON.stringify(entry)}\n`,
    };
    const others = {
      empty: "",
      config: '{"model_type":"llama"}',
      vocab: '{"key": 1, "response": 2, "secret": 3}',
      added: '{"<key>": 5}',
      jinja: '{% for m in messages %}{{ m["key"] }}\n{% endfor %}',
      text: "key, response\n",
      tokens: '{"added_tokens":[{"id":0,"content":"key"}],"model":{"vocab":{"key":1}}}',
      numbers: "[1,2]",
    };
    await fill(dir, { ...kept, ...others });
    for (const name of Object.keys(kept)) assert.ok(await holdsFingerprints(join(dir, name)), name);
    for (const name of Object.keys(others)) assert.ok(!await holdsFingerprints(join(dir, name)), name);
  });
});

Deno.test("links out of the folder and private files stay behind", { ignore: isWindows }, async () => {
  await withFolder(async (dir) => {
    const model = join(dir, "model");
    await fill(model, { "config.json": "{}", "README.md": "a", "NOTICE": "mine" });
    await fill(join(model, ".git"), { config: "url = https://token@host" });
    await fill(join(dir, "home"), { id_rsa: "key", "LICENSE": "other" });
    await Deno.chmod(join(model, "NOTICE"), 0o600);
    const links = {
      "LICENSE": "../home/LICENSE",
      "merges.txt": "../home/id_rsa",
      "COPYING": ".git/config",
      "vocab.txt": "README.md",
      "tokenizer.model": "gone",
      "chat_template.jinja": "/etc/hostname",
      "additional_chat_templates": "../home",
    };
    for (const [name, target] of Object.entries(links)) await Deno.symlink(target, join(model, name));
    const found = await carried(model);
    assert.deepEqual(found.carried, ["README.md", "config.json", "vocab.txt"]);
    const outside = "a link out of the model's folder";
    assert.deepEqual(found.left, {
      "COPYING": "a link to what doesn't belong to a model",
      "LICENSE": outside,
      "NOTICE": "private: only its owner may read it",
      "additional_chat_templates/LICENSE": outside,
      "additional_chat_templates/id_rsa": outside,
      "chat_template.jinja": outside,
      "merges.txt": outside,
    });
    // Of somebody whose files are all private the mode says nothing.
    await Deno.chmod(join(model, "config.json"), 0o600);
    assert.ok((await carried(model)).carried.includes("NOTICE"));
  });
});

Deno.test("a snapshot of the Hub's cache, and folders of links to a model, are carried whole", {
  ignore: isWindows,
}, async () => {
  await withFolder(async (dir) => {
    const blobs = join(dir, "models--o--m", "blobs");
    const snapshot = join(dir, "models--o--m", "snapshots", "c".repeat(40));
    await fill(blobs, {
      a1: '{"model_type":"llama"}',
      b2: "{}",
      c3: "{{ x }}",
      d4: '[{"key":"k","response":"r"}]',
    });
    await Deno.mkdir(join(snapshot, "additional_chat_templates"), { recursive: true });
    await Deno.symlink("../../blobs/a1", join(snapshot, "config.json"));
    await Deno.symlink("../../blobs/b2", join(snapshot, "tokenizer.json"));
    await Deno.symlink("../../blobs/d4", join(snapshot, "vocab.json"));
    await Deno.symlink("../../../blobs/c3", join(snapshot, "additional_chat_templates", "rag.jinja"));
    await fill(join(dir, "models--o--other", "blobs"), { e5: "of another repository" });
    await Deno.symlink("../../../models--o--other/blobs/e5", join(snapshot, "README.md"));
    const whole = ["additional_chat_templates/rag.jinja", "config.json", "tokenizer.json"];
    const left = { "README.md": "a link out of the model's folder", "vocab.json": "it holds fingerprints" };
    assert.deepEqual(await carried(snapshot), { carried: whole, left });
    await Deno.symlink(snapshot, join(dir, "latest"));
    assert.deepEqual(await carried(join(dir, "latest")), { carried: whole, left });

    const real = join(dir, "real"), links = join(dir, "links");
    await fill(real, { "config.json": "{}", "tokenizer.json": "{}", "merges.txt": "x", "private.txt": "" });
    await Deno.mkdir(links);
    for (const name of ["config.json", "tokenizer.json"]) {
      await Deno.symlink(join(real, name), join(links, name));
    }
    await Deno.symlink(join(real, "private.txt"), join(links, "merges.txt"));
    assert.deepEqual((await carried(links)).carried, ["config.json", "tokenizer.json"]);
  });
});

Deno.test("code that auto_map names, and what it imports, is carried; other code isn't", async () => {
  await withFolder(async (dir) => {
    const auto_map = {
      AutoConfig: "configuration_x.C",
      AutoModel: ["modeling_x.M", null],
      AutoTokenizer: "o/r--far.T",
    };
    await fill(dir, {
      "config.json": JSON.stringify({ auto_map }),
      "configuration_x.py": "",
      "modeling_x.py": "import torch\nfrom .layers import A\nfrom . import util\nfrom .. import up\n",
      "layers.py": "from .modeling_x import M",
      "util.py": "",
      "far.py": "",
      "up.py": "",
      "train.py": "KEY = 1",
    });
    const { carried: names, left } = await carried(dir);
    assert.deepEqual(names, ["config.json", "configuration_x.py", "layers.py", "modeling_x.py", "util.py"]);
    assert.deepEqual(Object.keys(left), ["far.py", "train.py", "up.py"]);
  });
});

Deno.test("what would make the folder unloadable stays behind, and what is no regular file", {
  ignore: isWindows,
}, async () => {
  await withFolder(async (dir) => {
    const stray = {
      "adapter_config.json": "adapter",
      "adapter_model.safetensors": "adapter",
      "pytorch_model.bin": "weights",
      "model.gguf": "weights",
      "flax_model.msgpack": "weights",
      "quantize_config.json": "quantised",
      "hf_quant_config.json": "quantised",
      "training_args.bin": "weights",
      "trainer_state.json": "trainer",
      "old.index.json": "weights",
    };
    await fill(dir, { "config.json": "{}", "model.safetensors": "", ".hidden": "", ...stray });
    await fill(join(dir, "onnx"), { "model.onnx": "" });
    await new Deno.Command("mkfifo", { args: [join(dir, "LICENSE")] }).output();
    const { carried: names, left } = await carried(dir);
    assert.deepEqual(names, ["config.json"]);
    for (const [name, reason] of Object.entries(stray)) assert.match(left[name], new RegExp(reason), name);
    assert.equal(left["LICENSE"], "not a regular file");
    assert.deepEqual(Object.keys(left).sort(), [...Object.keys(stray), "LICENSE", "onnx/"].sort());
  });
});
