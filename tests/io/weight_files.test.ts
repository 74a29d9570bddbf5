import assert from "node:assert/strict";
import { join } from "node:path";
import { openModelDir, saveModelDir } from "../../engine/io/model_dir.ts";
import { Checkpoint } from "../../engine/io/safetensors.ts";
import {
  type ParameterSource,
  writeCheckpoint,
  type WriteCheckpointOptions,
  writeSafetensors,
} from "../../engine/io/safetensors_writer.ts";
import {
  layOutFiles,
  MAX_FILE_BYTES,
  splitIntoFiles,
  totalBytes,
  writeWeightFiles,
} from "../../engine/io/weight_files.ts";
import { narrow } from "../../engine/tensor/dtype.ts";
import { parseSafetensors, type RawTensor } from "../safetensors.ts";
import { fill, fromCheckpoint, GOLDEN, names, nothing, someValues, withFolder } from "./support.ts";

const INDEX = "model.safetensors.index.json";

/** All tensors of a folder's weights in the files' alphabetical order, read without the engine. */
async function tensorsOf(dir: string): Promise<Map<string, RawTensor>> {
  const files = (await names(dir)).filter((name) => /^(?!golden).*\.safetensors$/.test(name));
  const all = await Promise.all(files.map(async (file) => {
    return [...parseSafetensors(await Deno.readFile(join(dir, file)))];
  }));
  return new Map(all.flat());
}

/** Writes a checkpoint into a new folder and opens that. */
async function rewritten(
  source: Checkpoint,
  dir: string,
  parameters: ParameterSource,
  options: WriteCheckpointOptions,
): Promise<Checkpoint> {
  await Deno.mkdir(dir);
  await writeCheckpoint(source, dir, parameters, options);
  return await Checkpoint.open(dir);
}

Deno.test("tensors fill files up to the limit, in order; none is split, and a larger one stands alone", () => {
  const sizes: [limit: number, bytes: number[], groups: number[][]][] = [
    [10, [4, 6], [[4, 6]]],
    [10, [4, 7], [[4], [7]]],
    [10, [2, 3, 4, 5, 6, 1], [[2, 3, 4], [5], [6, 1]]],
    [10, [3, 40, 3, 3], [[3], [40], [3, 3]]],
    [10, [40], [[40]]],
    [10, [0, 40, 0, 1, 0], [[0, 40, 0], [1, 0]]],
    [1, [1, 1, 1], [[1], [1], [1]]],
    [0.5, [1, 1], [[1], [1]]],
    [10, [], [[]]],
  ];
  for (const [limit, bytes, expected] of sizes) {
    const tensors = bytes.map((count, i) => ({ name: `t${i}`, dtype: "U8", shape: [count] }));
    const found = splitIntoFiles(tensors, limit);
    assert.deepEqual(found.flat(), tensors);
    assert.deepEqual(found.map((group) => group.map(({ shape }) => shape[0])), expected, `${bytes}`);
  }
  for (const limit of [0, -1, NaN]) {
    assert.throws(() => splitIntoFiles([], limit), /RangeError: maxFileBytes: expected more than 0, found/);
  }
});

Deno.test("5 GB of data are one file, 16 GB are four with an index, under Hugging Face's names", () => {
  const tensor = (i: number) => ({ name: `layer.${i}`, dtype: "BF16", shape: [25_000, 10_000] });
  const metadata = { format: "pt" };
  const ten = Array.from({ length: 10 }, (_, i) => tensor(i));
  assert.equal(totalBytes(ten), MAX_FILE_BYTES);
  assert.deepEqual(layOutFiles(ten, metadata), {
    files: [{ name: "model.safetensors", metadata, tensors: ten }],
    index: undefined,
  });
  const many = Array.from({ length: 32 }, (_, i) => tensor(i));
  const { files, index } = layOutFiles(many, metadata);
  assert.deepEqual(files.map(({ name, tensors }) => `${name} ${tensors.length}`), [
    "model-00001-of-00004.safetensors 10",
    "model-00002-of-00004.safetensors 10",
    "model-00003-of-00004.safetensors 10",
    "model-00004-of-00004.safetensors 2",
  ]);
  const parsed = JSON.parse(new TextDecoder().decode(index));
  assert.deepEqual(parsed.metadata, { total_size: 16_000_000_000 });
  assert.equal(parsed.weight_map["layer.19"], files[1].name);
  assert.deepEqual(Object.keys(parsed.weight_map), many.map(({ name }) => name).sort());
});

Deno.test("a checkpoint over the limit is written in pieces: every tensor as it was, masks and buffers too", async () => {
  await withFolder(async (dir) => {
    using source = await Checkpoint.open(join(GOLDEN, "gpt_neox"));
    const wanted = await tensorsOf(join(GOLDEN, "gpt_neox"));
    assert.ok([...wanted.values()].some(({ dtype }) => dtype === "BOOL"));
    const largest = Math.max(...[...wanted.values()].map(({ bytes }) => bytes.byteLength));
    for (const maxFileBytes of [100_000, largest, 5_000, 1]) {
      for (const [kind, parameters] of Object.entries({ copied: nothing, given: fromCheckpoint(source) })) {
        const out = join(dir, `${kind} ${maxFileBytes}`);
        using copy = await rewritten(source, out, parameters, { maxFileBytes });
        const count = copy.files.length;
        const five = (number: number) => String(number).padStart(5, "0");
        const pieces = Array.from({ length: count }, (_, i) => {
          return `model-${five(i + 1)}-of-${five(count)}.safetensors`;
        });
        assert.ok(count > 1);
        assert.deepEqual(await names(out), [...pieces, INDEX].sort());
        const found = await tensorsOf(out);
        assert.deepEqual([...found.keys()], [...wanted.keys()], "the order of the source");
        assert.deepEqual(found, wanted);
        for (const { entries, metadata } of copy.files) {
          const bytes = entries.reduce((sum, { begin, end }) => sum + end - begin, 0);
          assert.ok(bytes <= maxFileBytes || entries.length === 1, `${bytes} bytes of ${entries.length}`);
          assert.deepEqual(metadata, { format: "pt" });
        }
        const index = JSON.parse(await Deno.readTextFile(join(out, INDEX)));
        const sizes = [...wanted.values()].map(({ bytes }) => bytes.byteLength);
        assert.equal(index.metadata.total_size, sizes.reduce((a, b) => a + b));
        assert.deepEqual(Object.keys(index.weight_map), [...wanted.keys()].sort());
      }
    }
  });
});

Deno.test("a type that makes the file too large splits it; a tied head's copy and other files come along", async () => {
  await withFolder(async (dir) => {
    const from = join(GOLDEN, "qwen3");
    const source = await openModelDir(from);
    using checkpoint = source.checkpoint;
    const [embedding, head] = ["model.embed_tokens.weight", "lm_head.weight"];
    const values = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) {
      values.set(name, (await checkpoint.read(name)).map((x) => x * 1.001 + 1e-6));
    }
    const parameters: ParameterSource = {
      has: () => true,
      read: (name, first, count) => {
        const own = values.get(name === head ? embedding : name)!;
        return Promise.resolve(own.slice(first, first + count));
      },
    };
    const stored = totalBytes([...checkpoint.tensors.values()]);
    await saveModelDir(source, join(dir, "same"), parameters, { maxFileBytes: stored });
    assert.ok((await names(join(dir, "same"))).includes("model.safetensors"));

    const out = join(dir, "wide");
    const progress: number[] = [];
    await saveModelDir(source, out, parameters, {
      saveDtype: "F32",
      maxFileBytes: stored,
      onProgress: ({ bytesDone, bytesTotal }) => progress.push(bytesDone / bytesTotal),
    });
    assert.equal(progress.at(-1), 1);
    const weights = (await names(out)).filter((name) => name.includes("safetensors"));
    assert.ok(weights.length >= 3 && !weights.includes("model.safetensors"), weights.join());
    const others = (await names(out)).filter((name) => !name.includes("safetensors"));
    // golden.json belongs to no model.
    assert.deepEqual(others, ["config.json"]);
    const wide = await openModelDir(out);
    using saved = wide.checkpoint;
    assert.equal(wide.config.torch_dtype, "float32");
    assert.deepEqual([...saved.tensors.keys()].sort(), [...checkpoint.tensors.keys()].sort());
    for (const [name, { shape }] of checkpoint.tensors) {
      assert.deepEqual(saved.tensors.get(name)!.shape, shape, name);
      assert.equal(saved.tensors.get(name)!.dtype, "F32", name);
      assert.deepEqual(await saved.read(name), values.get(name === head ? embedding : name), name);
    }

    // Back to the stored type: the pieces stay as they are, since none is too large.
    await saveModelDir(wide, join(dir, "narrow"), fromCheckpoint(saved), { saveDtype: "BF16" });
    const narrowWeights = (await names(join(dir, "narrow"))).filter((name) => name.includes("safetensors"));
    assert.deepEqual(narrowWeights, weights);
    using narrowed = await Checkpoint.open(join(dir, "narrow"));
    for (const name of saved.tensors.keys()) {
      assert.deepEqual(
        await narrowed.readBytes(name),
        narrow("BF16", values.get(name === head ? embedding : name)!),
      );
    }
    const index = JSON.parse(await Deno.readTextFile(join(dir, "narrow", INDEX)));
    assert.equal(index.metadata.total_size, stored);
  });
});

Deno.test("pieces of which one grows over the limit are all written anew, with what their index says besides", async () => {
  await withFolder(async (dir) => {
    const from = join(dir, "in");
    await Deno.mkdir(from);
    const tensor = (name: string, elements: number, seed: number) => ({
      name,
      dtype: "F16" as const,
      shape: [elements],
      values: someValues(elements, seed),
    });
    await writeSafetensors(join(from, "a-2.safetensors"), [tensor("head", 30, 1)], { format: "pt", b: "2" });
    await writeSafetensors(join(from, "a-1.safetensors"), [tensor("z", 10, 2), tensor("y", 20, 3)]);
    // As save_pretrained sorts it, the last file comes first.
    const weight_map = { head: "a-2.safetensors", y: "a-1.safetensors", z: "a-1.safetensors" };
    const metadata = { total_parameters: 60, total_size: 120 };
    await fill(from, { [INDEX]: JSON.stringify({ metadata, weight_map }) });
    using source = await Checkpoint.open(from);
    using kept = await rewritten(source, join(dir, "kept"), fromCheckpoint(source), { maxFileBytes: 60 });
    assert.deepEqual(kept.files.map(({ name }) => name), ["a-2.safetensors", "a-1.safetensors"]);
    assert.deepEqual(kept.indexBytes, source.indexBytes);

    using out = await rewritten(source, join(dir, "out"), fromCheckpoint(source), { maxFileBytes: 59 });
    assert.deepEqual(await names(join(dir, "out")), [
      "model-00001-of-00003.safetensors",
      "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors",
      INDEX,
    ]);
    assert.deepEqual([...(await tensorsOf(join(dir, "out"))).keys()], ["z", "y", "head"]);
    const index = JSON.parse(await Deno.readTextFile(join(dir, "out", INDEX)));
    assert.deepEqual(index.metadata, metadata);
    for (const { metadata } of out.files) assert.deepEqual(metadata, { format: "pt", b: "2" });
    for (const name of source.tensors.keys()) {
      assert.deepEqual(await out.readBytes(name), await source.readBytes(name));
    }
  });
});

Deno.test("old weights in the folder that would be read instead of the new ones are removed", async () => {
  await withFolder(async (dir) => {
    await writeSafetensors(
      join(dir, "in.safetensors"),
      ["a", "b"].map((name) => ({
        name,
        dtype: "F32" as const,
        shape: [5],
        values: someValues(5),
      })),
    );
    using source = await Checkpoint.openFile(join(dir, "in.safetensors"));
    const heads = [...source.tensors.values()];
    const out = join(dir, "out");
    await fill(out, { "model.safetensors": "old", "notes.txt": "" });
    const write = (maxFileBytes: number) => {
      const files = layOutFiles(heads, { format: "pt" }, maxFileBytes);
      return writeWeightFiles(out, files, ({ name }, append) => source.streamBytes(name, 8, append));
    };
    await write(20);
    const pieces = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert.deepEqual(await names(out), [...pieces, INDEX, "notes.txt"]);
    await write(40);
    assert.deepEqual(await names(out), [...pieces, "model.safetensors", "notes.txt"]);
    using copy = await Checkpoint.open(out);
    assert.deepEqual(await copy.read("b"), someValues(5));
  });
});

Deno.test("data that doesn't fill its tensor is an error, and no file is left", async () => {
  await withFolder(async (dir) => {
    const files = layOutFiles([{ name: "w", dtype: "F32", shape: [2, 2] }], { format: "pt" });
    for (const bytes of [12, 20]) {
      await assert.rejects(
        writeWeightFiles(dir, files, (_, append) => append(new Uint8Array(bytes))),
        { name: "RangeError", message: `tensor "w": expected 16 bytes, found ${bytes}` },
      );
    }
    assert.deepEqual(await names(dir), []);
  });
});
