import assert from "node:assert/strict";
import { join } from "node:path";
import { bytesOf } from "../../engine/tensor/dtype.ts";
import { Checkpoint, SafetensorsError } from "../../engine/io/safetensors.ts";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { fill, GOLDEN, rawFile, someValues, withFolder } from "./support.ts";

const entry = (dtype: unknown, shape: unknown, offsets: unknown) => ({ dtype, shape, data_offsets: offsets });
const good = entry("F32", [2], [0, 8]);

const malformed: [what: string, bytes: Uint8Array, message: RegExp][] = [
  ["empty file", new Uint8Array(0), /at least 8 bytes, found 0/],
  ["shorter than the length", new Uint8Array(7), /at least 8 bytes, found 7/],
  ["header longer than the file", rawFile({ a: good }, 8, 5000), /header length 5000 exceeds the \d+ bytes/],
  [
    "absurd header length",
    rawFile({}, 0, 2 ** 53),
    /header length 9007199254740992 is over the limit of 100000000/,
  ],
  ["a PyTorch file", new Uint8Array(100).fill(0x50), /over the limit/],
  ["header not UTF-8", rawFile(Uint8Array.of(0x7b, 0xff, 0x7d)), /not valid UTF-8/],
  ["header not JSON", rawFile("{nope"), /not valid JSON/],
  ["empty header", rawFile(""), /not valid JSON/],
  [
    "byte order mark",
    rawFile("\ufeff{}"),
    /the header is not valid JSON at line 1 column 1: .*expected a value$/,
  ],
  ["header a list", rawFile([1]), /header to be a JSON object, found a list/],
  ["header null", rawFile("null"), /header to be a JSON object, found null/],
  ["entry not an object", rawFile({ a: 3 }), /tensor "a": expected an object, found 3/],
  [
    "unknown dtype",
    rawFile({ a: entry("F31", [2], [0, 8]) }, 8),
    /tensor "a": expected a dtype of .*found "F31"/,
  ],
  ["inherited name as dtype", rawFile({ a: entry("constructor", [2], [0, 8]) }, 8), /expected a dtype/],
  ["no dtype", rawFile({ a: entry(undefined, [2], [0, 8]) }, 8), /expected a dtype of .*found undefined/],
  ["shape not a list", rawFile({ a: entry("F32", 2, [0, 8]) }, 8), /shape to be a list .*found 2/],
  ["negative shape", rawFile({ a: entry("F32", [-2], [0, 8]) }, 8), /shape to be a list .*found \[-2\]/],
  ["fractional shape", rawFile({ a: entry("F32", [0.5], [0, 2]) }, 2), /shape to be a list .*found \[0.5\]/],
  ["shape that overflows", rawFile({ a: entry("F32", [2 ** 40, 2 ** 40], [0, 8]) }, 8), /needs .* bytes/],
  [
    "offsets missing",
    rawFile({ a: entry("F32", [2], undefined) }, 8),
    /data_offsets to be two .*found undefined/,
  ],
  ["one offset", rawFile({ a: entry("F32", [2], [8]) }, 8), /data_offsets to be two .*found \[8\]/],
  ["offsets not numbers", rawFile({ a: entry("F32", [2], ["0", "8"]) }, 8), /data_offsets to be two/],
  ["negative offset", rawFile({ a: entry("F32", [2], [-8, 0]) }, 8), /data_offsets to be two/],
  ["begin after end", rawFile({ a: entry("F32", [2], [8, 0]) }, 8), /\[8,0\] begin after they end/],
  [
    "out of the file",
    rawFile({ a: entry("F32", [2], [0, 8]) }, 4),
    /outside the file, which has 4 data bytes/,
  ],
  ["size against shape", rawFile({ a: entry("F32", [3], [0, 8]) }, 8), /\[3\] of F32 needs 12 bytes.*hold 8/],
  [
    "overlap",
    rawFile({ a: good, b: entry("F32", [2], [4, 12]) }, 12),
    /"b" overlaps tensor "a".* 4, expected 8/,
  ],
  ["same range twice", rawFile({ a: good, b: good }, 8), /overlaps tensor "a"/],
  [
    "gap",
    rawFile({ a: good, b: entry("F32", [1], [12, 16]) }, 16),
    /gap of 4 bytes between tensor "a" and .*"b"/,
  ],
  ["gap at the start", rawFile({ a: entry("F32", [1], [4, 8]) }, 8), /gap of 4 bytes between the header and/],
  ["trailing bytes", rawFile({ a: good }, 11), /3 bytes follow the last tensor/],
  ["metadata not an object", rawFile({ __metadata__: [], a: good }, 8), /__metadata__ to be an object/],
  [
    "metadata not strings",
    rawFile({ __metadata__: { n: 1 }, a: good }, 8),
    /__metadata__\["n"\] .* string, found 1/,
  ],
];

for (const [what, bytes, message] of malformed) {
  Deno.test(`malformed safetensors: ${what}`, async () => {
    await withFolder(async (dir) => {
      await fill(dir, { "model.safetensors": bytes });
      await assert.rejects(Checkpoint.open(dir), (error) => {
        assert.ok(error instanceof SafetensorsError, String(error));
        assert.match(error.reason, message);
        assert.equal(error.path, join(dir, "model.safetensors"));
        assert.ok(error.message.startsWith(error.path));
        return true;
      });
    });
  });
}

Deno.test("unaligned data, scalars, empty tensors, odd names and header order are read right", async () => {
  await withFolder(async (dir) => {
    const data = new Uint8Array(13);
    data[0] = 1;
    data.set(bytesOf(Float32Array.of(1.5, -2)), 1);
    data.set(bytesOf(Float32Array.of(7)), 9);
    const header = '{"10":{"dtype":"F32","shape":[],"data_offsets":[9,13]},' +
      '"__proto__":{"dtype":"F32","shape":[1,2],"data_offsets":[1,9]},' +
      '"none":{"dtype":"BF16","shape":[0,4],"data_offsets":[9,9]},' +
      '"mask":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}';
    await fill(dir, { "model.safetensors": rawFile(header, data) });
    using checkpoint = await Checkpoint.open(dir);
    assert.deepEqual([...checkpoint.tensors.keys()], ["mask", "__proto__", "none", "10"]);
    assert.deepEqual(await checkpoint.read("__proto__"), Float32Array.of(1.5, -2));
    assert.deepEqual(await checkpoint.read("10"), Float32Array.of(7));
    assert.deepEqual(await checkpoint.read("none"), new Float32Array(0));
    assert.deepEqual(await checkpoint.readBytes("mask"), Uint8Array.of(1));
    assert.equal(checkpoint.files[0].metadata, undefined);
    await assert.rejects(checkpoint.read("mask"), /tensor "mask" is BOOL: only F32, F16, BF16/);
    await assert.rejects(checkpoint.read("toString"), /has no tensor "toString"/);
    await assert.rejects(checkpoint.stream("10", 0, () => {}), RangeError);
  });
});

Deno.test("a file that shrinks, a consumer that throws and a closed checkpoint are errors, not wrong data", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "model.safetensors");
    await writeSafetensors(path, [{ name: "a", dtype: "F32", shape: [8], values: someValues(8) }]);
    using checkpoint = await Checkpoint.open(dir);
    const stop = new Error("stop");
    await assert.rejects(checkpoint.stream("a", 3, () => Promise.reject(stop)), stop);
    await Deno.truncate(path, (await Deno.stat(path)).size - 4);
    await assert.rejects(
      checkpoint.read("a"),
      /tensor "a": expected 32 bytes .*found 28: the file has shrunk/,
    );
    checkpoint.close();
    checkpoint.close();
    await assert.rejects(checkpoint.read("a"), /closed/);
  });
});

const shardA = rawFile({ a: good }, bytesOf(Float32Array.of(1, 2)));
const shardB = rawFile({ b: good }, bytesOf(Float32Array.of(3, 4)));
const index = (map: unknown) => JSON.stringify({ metadata: { total_size: 16 }, weight_map: map });

Deno.test("a sharded checkpoint is read through its index", async () => {
  await withFolder(async (dir) => {
    await fill(dir, {
      "model.safetensors.index.json": index({ b: "s2.safetensors", a: "s1.safetensors" }),
      "s1.safetensors": shardA,
      "s2.safetensors": shardB,
    });
    using checkpoint = await Checkpoint.open(dir);
    assert.deepEqual(checkpoint.files.map((file) => file.name), ["s2.safetensors", "s1.safetensors"]);
    assert.deepEqual(await checkpoint.read("a"), Float32Array.of(1, 2));
    assert.deepEqual(await checkpoint.read("b"), Float32Array.of(3, 4));
  });
});

Deno.test("a file cut off anywhere is an error that names it; so is one shard of several", async () => {
  await withFolder(async (dir) => {
    const golden = await Deno.readFile(join(GOLDEN, "llama", "model.safetensors"));
    const headerBytes = Number(new DataView(golden.buffer).getBigUint64(0, true));
    const path = join(dir, "model.safetensors");
    for (const end of [3, 8, 8 + headerBytes - 1, 8 + headerBytes, golden.length >> 1, golden.length - 1]) {
      await Deno.writeFile(path, golden.subarray(0, end));
      await assert.rejects(Checkpoint.open(dir), (error) => {
        assert.ok(error instanceof SafetensorsError);
        assert.equal(error.path, path);
        assert.match(error.reason, /(expected|exceeds|outside) .*truncated or (corrupt|not safetensors)/);
        return true;
      });
    }
    const shards = join(dir, "shards");
    await fill(shards, {
      "model.safetensors.index.json": index({ b: "s2.safetensors", a: "s1.safetensors" }),
      "s1.safetensors": shardA.subarray(0, shardA.length - 1),
      "s2.safetensors": shardB,
    });
    await assert.rejects(
      Checkpoint.open(shards),
      /s1\.safetensors: tensor "a": data_offsets \[0,8\] lie outside the file, which has 7 data bytes: truncated/,
    );
  });
});

Deno.test("integers can't be read as numbers: the error names the file, the tensor and both types", async () => {
  await withFolder(async (dir) => {
    await fill(dir, { "model.safetensors": rawFile({ w: entry("I64", [2], [0, 16]) }, 16) });
    using checkpoint = await Checkpoint.open(dir);
    const message = `${
      join(dir, "model.safetensors")
    }: tensor "w" is I64: only F32, F16, BF16 can be read as numbers`;
    await assert.rejects(checkpoint.read("w"), { name: "SafetensorsError", message });
    assert.deepEqual(await checkpoint.readBytes("w"), new Uint8Array(16));
  });
});

const badIndexes: [what: string, index: string, message: RegExp][] = [
  [
    "shard missing",
    index({ a: "s1.safetensors", c: "s3.safetensors" }),
    /index.json: weight_map\["c"\]: expected the shard "s3.safetensors" .* found no such file$/,
  ],
  [
    "tensor in two shards",
    index({ a: "s1.safetensors", b: "other.safetensors" }),
    /other.safetensors: tensor "a" is also in .*s1.safetensors, with other content$/,
  ],
  [
    "path out of the folder",
    index({ a: "../s1.safetensors" }),
    /weight_map\["a"\]: .*found "..\/s1.safetensors"/,
  ],
  ["absolute path", index({ a: "/etc/passwd" }), /in the same folder, found "\/etc\/passwd"/],
  ["Windows path", index({ a: "..\\s1.safetensors" }), /in the same folder/],
  ["parent", index({ a: ".." }), /in the same folder/],
  ["not a name", index({ a: 3 }), /in the same folder, found 3/],
  ["no weight_map", "{}", /weight_map to name a file a tensor, found undefined/],
  ["empty weight_map", index({}), /weight_map/],
  ["not an object", "[]", /weight_map/],
  [
    "not JSON",
    '{\n "weight_map": {"a" "b"}}',
    /index.json: not valid JSON at line 2 column 21: unexpected "\\"b\\"}}"/,
  ],
];

for (const [what, text, message] of badIndexes) {
  Deno.test(`bad index: ${what}`, async () => {
    await withFolder(async (dir) => {
      await fill(dir, {
        "model.safetensors.index.json": text,
        "s1.safetensors": shardA,
        "s2.safetensors": shardB,
        "other.safetensors": rawFile({ a: good }, bytesOf(Float32Array.of(1, 3))),
      });
      await assert.rejects(Checkpoint.open(dir), message);
    });
  });
}

Deno.test("an index may name a tensor that no shard has, place one in another shard, and two may have it", async () => {
  await withFolder(async (dir) => {
    await fill(dir, {
      "model.safetensors.index.json": index({
        a: "s2.safetensors",
        b: "s1.safetensors",
        c: "s1.safetensors",
        d: "copy.safetensors",
      }),
      "s1.safetensors": shardA,
      "s2.safetensors": shardB,
      "copy.safetensors": shardA,
    });
    using checkpoint = await Checkpoint.open(dir);
    assert.deepEqual([...checkpoint.tensors.keys()].sort(), ["a", "b"]);
    assert.deepEqual(checkpoint.absent, new Map([["c", "s1.safetensors"], ["d", "copy.safetensors"]]));
    assert.deepEqual(await checkpoint.read("a"), Float32Array.of(1, 2));
    assert.deepEqual(await checkpoint.read("b"), Float32Array.of(3, 4));
  });
});

Deno.test("copies of a tensor that differ in type or shape alone are other content", async () => {
  const others = [{ ...good, shape: [1, 2] }, { ...good, dtype: "I32" }];
  for (const other of others) {
    await withFolder(async (dir) => {
      await fill(dir, {
        "model.safetensors.index.json": index({ a: "s1.safetensors", b: "other.safetensors" }),
        "s1.safetensors": shardA,
        "other.safetensors": rawFile({ a: other }, bytesOf(Float32Array.of(1, 2))),
      });
      await assert.rejects(Checkpoint.open(dir), /with other content$/);
    });
  }
});

Deno.test("missing weights: the error says what was looked for, and that PyTorch files need converting", async () => {
  await withFolder(async (dir) => {
    await assert.rejects(
      Checkpoint.open(dir),
      /looked for model.safetensors and model.safetensors.index.json$/,
    );
    await fill(dir, { "pytorch_model.bin": "x" });
    await assert.rejects(Checkpoint.open(dir), /pytorch_model.bin is there, but .* converted to safetensors/);
    await assert.rejects(Checkpoint.open(join(dir, "nowhere")), /nowhere: no such folder/);
    await assert.rejects(Checkpoint.open(join(dir, "pytorch_model.bin")), /is not a folder/);
    await assert.rejects(Checkpoint.openFile(join(dir, "x.safetensors")), /x.safetensors: does not exist/);
  });
});
