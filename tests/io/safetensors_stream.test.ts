import assert from "node:assert/strict";
import { join } from "node:path";
import { Checkpoint } from "../../engine/io/safetensors.ts";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { narrow } from "../../engine/tensor/dtype.ts";
import { someValues, withFolder } from "./support.ts";

Deno.test("tensors are read in pieces that don't divide them, in order, into one buffer", async () => {
  await withFolder(async (dir) => {
    const values = someValues(1003);
    const path = join(dir, "model.safetensors");
    const dtypes = ["BF16", "F32", "F16"] as const;
    await writeSafetensors(path, dtypes.map((dtype) => ({ name: dtype, dtype, shape: [17, 59], values })));
    using checkpoint = await Checkpoint.open(dir);
    for (const dtype of dtypes) {
      const expected = await checkpoint.read(dtype);
      assert.deepEqual(narrow(dtype, expected), narrow(dtype, values));
      for (const piece of [1, 7, 100, 1002, 1003, 1004, 1e9]) {
        const got = new Float32Array(1003);
        const buffers = new Set<unknown>();
        let next = 0;
        await checkpoint.stream(dtype, piece, (part, first) => {
          assert.equal(first, next);
          assert.ok(part.length === piece || first + part.length === 1003);
          assert.ok(part.buffer.byteLength <= 4 * piece);
          buffers.add(part.buffer);
          got.set(part, first);
          next += part.length;
        });
        assert.equal(next, 1003);
        assert.equal(buffers.size, 1, "one buffer is reused");
        assert.deepEqual(got, expected);
      }
    }
  });
});

Deno.test("a part of a tensor is read alone, in pieces that don't divide it", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "model.safetensors");
    const dtypes = ["BF16", "F32", "F16"] as const;
    const tensors = dtypes.map((dtype, seed) => ({
      name: dtype,
      dtype,
      shape: [17, 59],
      values: someValues(1003, seed),
    }));
    await writeSafetensors(path, tensors);
    using checkpoint = await Checkpoint.open(dir);
    for (const { name } of tensors) {
      const [values, bytes] = [await checkpoint.read(name), await checkpoint.readBytes(name)];
      const size = bytes.byteLength / values.length;
      for (
        const [firstElement, elements] of [[0, 1003], [59, 118], [1002, 1], [7, 0], [1003, 0], [5, undefined]]
      ) {
        const end = elements === undefined ? 1003 : firstElement! + elements;
        for (const piece of [1, 50, 1e6]) {
          const got: number[] = [];
          await checkpoint.stream(name, piece, (part, first) => {
            assert.equal(first, firstElement! + got.length);
            assert.ok(part.length === piece || first + part.length === end);
            got.push(...part);
          }, { firstElement, elements });
          assert.deepEqual(Float32Array.from(got), values.slice(firstElement, end));
        }
        const got: number[] = [];
        await checkpoint.streamBytes(name, 100, (part, first) => {
          assert.equal(first, firstElement! * size + got.length);
          assert.equal(part.byteOffset, 0);
          got.push(...part);
        }, { firstByte: firstElement! * size, bytes: elements === undefined ? undefined : elements * size });
        assert.deepEqual(Uint8Array.from(got), bytes.slice(firstElement! * size, end * size));
      }
      for (const [firstElement, elements] of [[1000, 4], [1004, 0], [-1, 2], [0, -1], [0.5, 1], [0, NaN]]) {
        await assert.rejects(checkpoint.stream(name, 9, () => assert.fail(), { firstElement, elements }), {
          name: "RangeError",
          message: `tensor "${name}": expected a part of its 1003 elements, ` +
            `found ${elements} elements from ${firstElement}`,
        });
      }
      await assert.rejects(
        checkpoint.streamBytes(name, 9, () => {}, { firstByte: 4, bytes: bytes.byteLength }),
        /RangeError: tensor ".*": expected a part of its \d+ bytes, found \d+ bytes from 4$/,
      );
    }
  });
});

Deno.test("a slow consumer and concurrent reads of one file get the right data", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "model.safetensors");
    const tensors = [1, 2, 3].map((seed) => ({
      name: `t${seed}`,
      dtype: "F32" as const,
      shape: [100],
      values: someValues(100, seed),
    }));
    await writeSafetensors(path, tensors);
    using checkpoint = await Checkpoint.open(dir);
    await Promise.all(tensors.map(async ({ name, values }) => {
      const got: number[] = [];
      await checkpoint.stream(name, 9, async (part) => {
        await Promise.resolve();
        got.push(...part);
      });
      assert.deepEqual(Float32Array.from(got), values);
    }));
  });
});
