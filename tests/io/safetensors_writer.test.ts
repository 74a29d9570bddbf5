import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { narrow } from "../../engine/tensor/dtype.ts";
import { Checkpoint } from "../../engine/io/safetensors.ts";
import {
  type ParameterSource,
  writeCheckpoint,
  writeSafetensors,
} from "../../engine/io/safetensors_writer.ts";
import {
  fill,
  fromCheckpoint,
  GOLDEN,
  GOLDEN_NAMES,
  names,
  nothing,
  rawFile,
  someValues,
  withFolder,
} from "./support.ts";

for (const golden of GOLDEN_NAMES) {
  Deno.test(`golden ${golden} written again is the same file, bit for bit`, async () => {
    await withFolder(async (dir) => {
      using source = await Checkpoint.open(join(GOLDEN, golden));
      const wanted = await Deno.readFile(source.files[0].path);
      for (const parameters of [nothing, fromCheckpoint(source)]) {
        await writeCheckpoint(source, dir, parameters);
        assert.deepEqual(await names(dir), ["model.safetensors"]);
        assert.deepEqual(await Deno.readFile(join(dir, "model.safetensors")), wanted);
      }
    });
  });
}

Deno.test("F16 with every bit pattern and tensors that aren't parameters are written again bit for bit", async () => {
  await withFolder(async (dir) => {
    const data = new Uint8Array(Uint16Array.from({ length: 65540 }, (_, i) => i).buffer);
    const header = {
      __metadata__: { format: "pt", note: "é" },
      "z.bias": { dtype: "BOOL", shape: [1, 8], data_offsets: [0, 8] },
      "a.weight": { dtype: "F16", shape: [256, 256], data_offsets: [8, 131080] },
    };
    // Padded as the writer pads, to compare whole files.
    const json = JSON.stringify(header);
    const bytes = new TextEncoder().encode(json);
    const padded = json + " ".repeat((8 - bytes.byteLength % 8) % 8);
    await fill(join(dir, "in"), { "model.safetensors": rawFile(padded, data) });
    await Deno.mkdir(join(dir, "out"));
    using source = await Checkpoint.open(join(dir, "in"));
    // Infinities are not refused: they were infinite before.
    await writeCheckpoint(source, join(dir, "out"), fromCheckpoint(source, ["z.bias"]));
    assert.deepEqual(
      await Deno.readFile(join(dir, "out", "model.safetensors")),
      await Deno.readFile(join(dir, "in", "model.safetensors")),
    );
  });
});

Deno.test("a file without metadata or aligned data gets the format and alignment that readers expect", async () => {
  await withFolder(async (dir) => {
    const header = { "x": { dtype: "F32", shape: [1], data_offsets: [0, 4] } };
    await fill(join(dir, "in"), { "model.safetensors": rawFile(JSON.stringify(header) + " ", 4) });
    await Deno.mkdir(join(dir, "out"));
    using source = await Checkpoint.open(join(dir, "in"));
    await writeCheckpoint(source, join(dir, "out"), nothing);
    using copy = await Checkpoint.open(join(dir, "out"));
    assert.deepEqual(copy.files[0].metadata, { format: "pt" });
    assert.equal(copy.tensors.get("x")!.begin % 8, 0);
  });
});

async function sharded(dir: string): Promise<void> {
  await Deno.mkdir(dir);
  const [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const tensor = (name: string, shape: number[], seed: number) => ({
    name,
    dtype: "BF16" as const,
    shape,
    values: someValues(shape.reduce((a, b) => a * b), seed),
  });
  await writeSafetensors(join(dir, first), [tensor("z", [3, 5], 1), tensor("m", [7], 2)]);
  await writeSafetensors(join(dir, second), [tensor("a", [4, 4], 3)]);
  const weight_map = { z: first, a: second, m: first };
  // Formatted in a way of its own, to see that it is not reformatted without need.
  await fill(dir, {
    "model.safetensors.index.json": JSON.stringify({ metadata: { total_size: 76 }, weight_map }),
  });
}

Deno.test("shards and their index are written under the same names; total_size follows the type", async () => {
  await withFolder(async (dir) => {
    await sharded(join(dir, "in"));
    using source = await Checkpoint.open(join(dir, "in"));
    await Deno.mkdir(join(dir, "same"));
    await writeCheckpoint(source, join(dir, "same"), fromCheckpoint(source));
    assert.deepEqual(await names(join(dir, "same")), await names(join(dir, "in")));
    for (const name of await names(join(dir, "in"))) {
      assert.deepEqual(
        await Deno.readFile(join(dir, "same", name)),
        await Deno.readFile(join(dir, "in", name)),
      );
    }

    await Deno.mkdir(join(dir, "wide"));
    const mixed = {
      ...fromCheckpoint(source),
      dtypeOf: (name: string) => name === "a" ? undefined : "F32" as const,
    };
    await writeCheckpoint(source, join(dir, "wide"), mixed);
    using wide = await Checkpoint.open(join(dir, "wide"));
    assert.deepEqual([...wide.tensors.values()].map(({ name, dtype }) => `${name} ${dtype}`), [
      "z F32",
      "m F32",
      "a BF16",
    ]);
    for (const name of ["z", "m", "a"]) assert.deepEqual(await wide.read(name), await source.read(name));
    const text = await Deno.readTextFile(join(dir, "wide", "model.safetensors.index.json"));
    assert.equal(JSON.parse(text).metadata.total_size, 22 * 4 + 16 * 2);
    assert.deepEqual(Object.keys(JSON.parse(text).weight_map), ["z", "a", "m"]);
  });
});

Deno.test("parameters are asked for in bounded pieces and may be handed over in one buffer", async () => {
  await withFolder(async (dir) => {
    const elements = 2 * 2 ** 21 + 5;
    await fill(join(dir, "in"), {
      "model.safetensors": rawFile(
        { w: { dtype: "BF16", shape: [elements], data_offsets: [0, elements * 2] } },
        elements * 2,
      ),
    });
    await Deno.mkdir(join(dir, "out"));
    using source = await Checkpoint.open(join(dir, "in"));
    const values = someValues(elements);
    const buffer = new Float32Array(2 ** 21);
    const asked: number[] = [];
    const done: number[] = [];
    await writeCheckpoint(source, join(dir, "out"), {
      has: () => true,
      read: (_, first, count) => {
        asked.push(count);
        buffer.set(values.subarray(first, first + count));
        return Promise.resolve(buffer.subarray(0, count));
      },
    }, { onProgress: ({ bytesDone, bytesTotal }) => done.push(bytesDone / bytesTotal) });
    assert.deepEqual(asked, [2 ** 21, 2 ** 21, 5]);
    assert.deepEqual(done.length, 3);
    assert.equal(done[2], 1);
    using copy = await Checkpoint.open(join(dir, "out"));
    assert.deepEqual(await copy.readBytes("w"), narrow("BF16", values));
  });
});

Deno.test("what would write a wrong file is an error and leaves the old file as it was", async () => {
  await withFolder(async (dir) => {
    const write = (values: number[], name = "w") => {
      return writeSafetensors(join(dir, "in.safetensors"), [
        { name, dtype: "F32", shape: [values.length], values: Float32Array.from(values) },
      ]);
    };
    await write([1, 2, 70000]);
    using source = await Checkpoint.openFile(join(dir, "in.safetensors"));
    const out = join(dir, "out");
    await fill(out, { "in.safetensors": "old" });
    const attempts: [Partial<ParameterSource>, RegExp][] = [
      [{ dtypeOf: () => "F16" }, /RangeError: tensor "w": value 70000 at element 2 is too large for F16/],
      [
        { read: () => Promise.resolve(new Float32Array(2)) },
        /RangeError: parameter "w": expected 3 values from 0, found 2/,
      ],
      [{ read: () => Promise.reject(new TypeError("device lost")) }, /TypeError: device lost/],
    ];
    for (const [change, message] of attempts) {
      await assert.rejects(writeCheckpoint(source, out, { ...fromCheckpoint(source), ...change }), message);
      assert.deepEqual(await names(out), ["in.safetensors"]);
      assert.equal(await Deno.readTextFile(join(out, "in.safetensors")), "old");
    }
    await assert.rejects(writeCheckpoint(source, dir, nothing), /the folder that the weights are read from/);
    await assert.rejects(
      writeCheckpoint(source, join(dir, "nowhere"), nothing),
      /FileWriteError: cannot write .*nowhere/,
    );
    await assert.rejects(write([1], "__metadata__"), RangeError);
    const tensor = { name: "t", dtype: "F32", shape: [2], values: new Float32Array(3) } as const;
    await assert.rejects(
      writeSafetensors(join(dir, "x"), [tensor]),
      /"t": shape \[2\] does not fit 3 values/,
    );
    assert.deepEqual(await names(dir), ["in.safetensors", "out"]);
  });
});

Deno.test("a stored integer tensor can't be replaced by parameters", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "in", "model.safetensors");
    await fill(dirname(path), {
      "model.safetensors": rawFile({ w: { dtype: "I8", shape: [4], data_offsets: [0, 4] } }, 4),
    });
    await Deno.mkdir(join(dir, "out"));
    using source = await Checkpoint.open(dirname(path));
    await assert.rejects(
      writeCheckpoint(source, join(dir, "out"), { ...nothing, has: () => true }),
      /parameter "w" is stored as I8/,
    );
  });
});
