import assert from "node:assert/strict";
import { GpuUnavailableError } from "../../../engine/gpu/errors.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import { openGpu } from "../../../pipeline/gpu/open.ts";
import { productError } from "../../../pipeline/gpu/product_error.ts";
import { freshGpu, onDawn, sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();
const rounded = await freshGpu({ matrix: "f16" }).catch((error) => {
  if (!(error instanceof GpuUnavailableError)) throw error;
});

/** Relative error of k products of uniform numbers in [-1, 1), if each product is off by at most `each`: ‖Σ|ab|‖ / ‖Σab‖. */
const bound = (each: number, k: number) => each * (k / 4) / (Math.sqrt(k) / 3);

Deno.test("the error of a product is f32's, or f16's on matrix units", async () => {
  const { shape, relativeError } = await productError(gpu);
  const k = shape[2];
  assert.ok(
    relativeError > 0 && relativeError < bound((2 + 2 * Math.sqrt(k)) * 2 ** -24, k),
    `${relativeError}`,
  );
  if (!rounded) return;
  const { relativeError: onUnits } = await productError(rounded);
  assert.ok(onUnits > 10 * relativeError && onUnits < bound(2 ** -10, k), `${onUnits}`);
});

Deno.test("a run that asks for matrix units needs a GPU that was opened with them", async () => {
  await assert.rejects(finetune({ matrix: "f16" }, { gpu }), {
    name: "SettingsError",
    message: "matrix: expected f16, but the given GPU has f32",
  });
});

Deno.test({
  name: "Deno's own WebGPU has no matrix units, and says who has",
  ignore: onDawn,
  fn: async () => {
    await assert.rejects(openGpu({ matrix: "f16" }), {
      name: "GpuUnavailableError",
      message:
        /^products in f16 on matrix units: .* has no chromium-experimental-subgroup-matrix.*\(Dawn has it/,
    });
  },
});
