import assert from "node:assert/strict";
import { join } from "node:path";
import { configWithDtype, openModelDir, saveModelDir, untiedConfig } from "../../engine/io/model_dir.ts";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { fill, names, someValues, withFolder } from "./support.ts";

const config = '{\n  "model_type": "llama",\n  "rope_theta": 10000.0,\n  "torch_dtype": "bfloat16"\n}\n';
const carried = ["LICENSE", "README.md", "chat_template.jinja", "generation_config.json", "merges.txt"]
  .concat(
    ["special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"],
  );
const left = [".gitattributes", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.gguf"].concat(
  ["pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack", "model.onnx", "old.safetensors"],
);

async function sourceFolder(dir: string, elements = 1000): Promise<string> {
  const from = join(dir, "source");
  const files = Object.fromEntries([...carried, ...left].map((name) => [name, `content of ${name}`]));
  await fill(from, { ...files, "config.json": config });
  await fill(join(from, "original"), { "params.json": "{}" });
  const tensors = [
    { name: "w", dtype: "BF16" as const, shape: [elements], values: someValues(elements) },
    { name: "rotary_emb.inv_freq", dtype: "F32" as const, shape: [3], values: Float32Array.of(1, 0.1, 0.01) },
  ];
  await writeSafetensors(join(from, "model.safetensors"), tensors);
  return from;
}

const zeros = {
  has: (name: string) => name === "w",
  read: (_: string, __: number, count: number) => Promise.resolve(new Float32Array(count)),
};

Deno.test("a saved folder has the new weights and every other file, and can be opened again", async () => {
  await withFolder(async (dir) => {
    const from = await sourceFolder(dir);
    await Deno.chmod(join(from, "tokenizer.json"), 0o444);
    const source = await openModelDir(from);
    using _ = source.checkpoint;
    assert.equal(source.config.model_type, "llama");
    const target = join(dir, "results", "x", "final_model");
    await saveModelDir(source, target, zeros);
    assert.deepEqual(await names(join(dir, "results", "x")), ["final_model"]);
    assert.deepEqual(await names(target), [...carried, "config.json", "model.safetensors"].sort());
    for (const name of [...carried, "config.json"]) {
      assert.deepEqual(await Deno.readFile(join(target, name)), await Deno.readFile(join(from, name)));
    }
    const saved = await openModelDir(target);
    using checkpoint = saved.checkpoint;
    assert.deepEqual(await checkpoint.read("w"), new Float32Array(1000));
    assert.deepEqual(await checkpoint.read("rotary_emb.inv_freq"), Float32Array.of(1, 0.1, 0.01));
  });
});

Deno.test("links to files, as in Hugging Face's cache, are followed; dangling ones and folders are not", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withFolder(async (dir) => {
    const real = await sourceFolder(dir);
    const linked = join(dir, "snapshot");
    await Deno.mkdir(linked);
    for (const name of ["config.json", "tokenizer.json", "model.safetensors", "original"]) {
      await Deno.symlink(join(real, name), join(linked, name));
    }
    await Deno.symlink(join(dir, "gone"), join(linked, "gone.txt"));
    const source = await openModelDir(linked);
    using _ = source.checkpoint;
    await saveModelDir(source, join(dir, "out"), zeros);
    assert.deepEqual(await names(join(dir, "out")), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert.ok((await Deno.lstat(join(dir, "out", "config.json"))).isFile);
  });
});

Deno.test("saveDtype changes parameters and what config.json says, nothing else in it", async () => {
  await withFolder(async (dir) => {
    const source = await openModelDir(await sourceFolder(dir));
    using _ = source.checkpoint;
    await saveModelDir(source, join(dir, "out"), zeros, { saveDtype: "F16" });
    const saved = await openModelDir(join(dir, "out"));
    using checkpoint = saved.checkpoint;
    assert.equal(checkpoint.tensors.get("w")!.dtype, "F16");
    assert.equal(checkpoint.tensors.get("rotary_emb.inv_freq")!.dtype, "F32");
    const text = await Deno.readTextFile(join(dir, "out", "config.json"));
    assert.equal(text, config.replace("bfloat16", "float16"));
  });
  const nested =
    '{"dtype":"float32","text_config":{"torch_dtype": null},"x":"\\"dtype\\": \\"half\\"","bnb_dtype":"half"}';
  assert.equal(
    configWithDtype(nested, "BF16"),
    nested.replace("float32", "bfloat16").replace("null", '"bfloat16"'),
  );
});

Deno.test("an existing target is refused, or replaced as a whole when asked", async () => {
  await withFolder(async (dir) => {
    const from = await sourceFolder(dir);
    const source = await openModelDir(from);
    using _ = source.checkpoint;
    const target = join(dir, "out");
    await fill(target, { "config.json": "{}", "stale.txt": "" });
    await assert.rejects(saveModelDir(source, target, zeros), /ModelDirError: .*out: .* the folder exists/);
    assert.deepEqual(await names(target), ["config.json", "stale.txt"]);
    await saveModelDir(source, target, zeros, { overwrite: true });
    assert.ok(!(await names(target)).includes("stale.txt"));
    assert.deepEqual(await names(dir), ["out", "source"]);

    await assert.rejects(
      saveModelDir(source, from, zeros, { overwrite: true }),
      /the folder that the weights/,
    );
    await assert.rejects(
      saveModelDir(source, join(from, "..", "source"), zeros),
      /the folder that the weights/,
    );
    await assert.rejects(saveModelDir(source, dir, zeros, { overwrite: true }), /are read from .* inside it/);
    await assert.rejects(
      saveModelDir(source, join(from, "README.md"), zeros, { overwrite: true }),
      /is a file/,
    );
    await fill(join(dir, "home"), { "thesis.txt": "" });
    await assert.rejects(
      saveModelDir(source, join(dir, "home"), zeros, { overwrite: true }),
      /not a model folder/,
    );
    assert.deepEqual(await names(dir), ["home", "out", "source"]);
  });
});

Deno.test("an abort between pieces or an error of the parameters leaves nothing, and an old folder as it was", async () => {
  await withFolder(async (dir) => {
    const source = await openModelDir(await sourceFolder(dir, 2 ** 21 + 1));
    using _ = source.checkpoint;
    const target = join(dir, "out");
    await fill(target, { "config.json": "old" });
    const stop = new Error("Ctrl-C");
    const controller = new AbortController();
    const pieces: number[] = [];
    const aborted = saveModelDir(source, target, zeros, {
      overwrite: true,
      signal: controller.signal,
      onProgress: ({ bytesDone }) => {
        pieces.push(bytesDone);
        controller.abort(stop);
      },
    });
    await assert.rejects(aborted, (error) => error === stop);
    assert.equal(pieces.length, 1);
    const lost = { ...zeros, read: () => Promise.reject(new Error("device lost")) };
    await assert.rejects(saveModelDir(source, target, lost, { overwrite: true }), /device lost/);
    await assert.rejects(saveModelDir(source, join(dir, "new"), lost), /device lost/);
    assert.deepEqual(await names(dir), ["out", "source"]);
    assert.deepEqual(await names(target), ["config.json"]);
  });
});

Deno.test("what a killed process with the same id left behind does not get in the way", async () => {
  await withFolder(async (dir) => {
    const source = await openModelDir(await sourceFolder(dir));
    using _ = source.checkpoint;
    await fill(join(dir, `out.partial-${Deno.pid}`), { "junk": "" });
    await saveModelDir(source, join(dir, "out"), zeros);
    assert.deepEqual(await names(dir), ["out", "source"]);
    assert.ok(!(await names(join(dir, "out"))).includes("junk"));
  });
});

Deno.test("a target that can't be created is named", async () => {
  await withFolder(async (dir) => {
    const source = await openModelDir(await sourceFolder(dir));
    using _ = source.checkpoint;
    await fill(dir, { "file": "" });
    await assert.rejects(
      saveModelDir(source, join(dir, "file", "model"), zeros),
      /FileWriteError: cannot write .*model\.partial-\d+: /,
    );
  });
});

Deno.test("a file size limit reached while saving is an error that names the file and leaves nothing", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withFolder(async (dir) => {
    const from = await sourceFolder(dir, 5 * 2 ** 20);
    const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
    const { npmCache } = JSON.parse(new TextDecoder().decode(info.stdout));
    // A cache of its own: Deno's is bigger than the limit. Packages are read from there only.
    await Deno.mkdir(join(dir, "cache"));
    await Deno.symlink(npmCache, join(dir, "cache", "npm"));
    const child = async (blocks: number, target: string) => {
      const script = join(import.meta.dirname!, "limited_save.ts");
      // 512 bytes a block in POSIX, 1,024 in some shells.
      const command = `ulimit -f ${blocks} && exec "$@"`;
      const run = [Deno.execPath(), "run", "-A", "--quiet", "--frozen", "--cached-only", "--no-check"];
      const { code, stdout, stderr } = await new Deno.Command("sh", {
        args: ["-c", command, "sh", ...run, script, from, target],
        env: { DENO_DIR: join(dir, "cache"), NO_COLOR: "1" },
      }).output();
      const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assert.equal(code, 0, decode(stderr));
      return decode(stdout);
    };
    const refused = await child(8192, join(dir, "out"));
    assert.match(refused, /FileWriteError: cannot write .*model.safetensors: .*file size limit .* EFBIG\n$/);
    assert.deepEqual((await names(dir)).filter((name) => name !== "cache"), ["source"]);
    assert.equal(await child(65536, join(dir, "out")), "saved\n");
  });
});

Deno.test("a folder that is no model folder is an error that says why", async () => {
  await withFolder(async (dir) => {
    await assert.rejects(openModelDir(join(dir, "gone")), /ModelDirError: .*gone: no such folder/);
    await assert.rejects(openModelDir(dir), /has no config.json/);
    await fill(dir, { "config.json": "[]" });
    await assert.rejects(openModelDir(join(dir, "config.json")), /is a file/);
    await assert.rejects(openModelDir(dir), /config.json: expected a JSON object, found a list/);
    await fill(dir, { "config.json": '{"a": }' });
    await assert.rejects(openModelDir(dir), /config.json: not valid JSON at line 1 column 7/);
    await fill(dir, { "config.json": "{}" });
    await assert.rejects(openModelDir(dir), /no weights found/);
  });
});

Deno.test("config.json says that the head isn't the embedding, and nothing else in it changes", () => {
  const cases: [string, string][] = [
    ['{"tie_word_embeddings": true}', '{"tie_word_embeddings": false}'],
    ['{"a":1.0,"tie_word_embeddings" :null }', '{"a":1.0,"tie_word_embeddings" :false }'],
    ['{"tie_word_embeddings":false}', '{"tie_word_embeddings":false}'],
    ['\ufeff{\n  "a": NaN\n}', '\ufeff{\n  "tie_word_embeddings": false,\n  "a": NaN\n}'],
    ['{"a": 1e-06}', '{"tie_word_embeddings": false, "a": 1e-06}'],
    [
      '{"text_config": {"tie_word_embeddings": true}}',
      '{"tie_word_embeddings": false, "text_config": {"tie_word_embeddings": false}}',
    ],
  ];
  for (const [text, expected] of cases) assert.equal(untiedConfig(text), expected);
});
