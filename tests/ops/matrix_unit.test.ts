import assert from "node:assert/strict";
import { GpuUnavailableError } from "../../engine/gpu/errors.ts";
import {
  chooseMatrixUnit,
  MATRIX_FEATURES,
  type MatrixAdapter,
  type MatrixType,
} from "../../engine/ops/matrix_unit.ts";

const config = (componentType: string, resultComponentType: string, M: number, N: number, K: number) => ({
  componentType,
  resultComponentType,
  M,
  N,
  K,
});

/** As NVIDIA's driver has it. */
const OFFERED = [
  ...[config("f16", "f16", 16, 16, 16), config("f16", "f32", 16, 8, 8), config("f16", "f32", 16, 16, 16)],
  ...[config("f16", "f32", 16, 8, 16), config("i8", "i32", 16, 16, 32), config("f16", "f32", 16, 16, 48)],
];

function choose(
  type: MatrixType,
  { configs = OFFERED, features = [...MATRIX_FEATURES, "subgroups"], sizes = [32, 32], room = 49152 } = {},
) {
  const limits = { maxComputeWorkgroupStorageSize: room };
  const [subgroupMinSize, subgroupMaxSize] = sizes;
  return chooseMatrixUnit(type, {
    name: "Some GPU",
    limits: limits as MatrixAdapter["limits"],
    adapterInfo: { subgroupMatrixConfigs: configs, subgroupMinSize, subgroupMaxSize },
    hasFeature: (feature) => features.includes(feature),
  });
}

Deno.test("matrix unit: the largest shape with f32 sums that tiles are multiples of", () => {
  assert.deepEqual(choose("f16"), { type: "f16", M: 16, N: 16, K: 16, subgroupSize: 32 });
  const small = [config("f16", "f32", 8, 8, 8), config("u8", "u32", 8, 8, 8)];
  const options = { configs: small, sizes: [8, 8] };
  assert.deepEqual(choose("f16", options), { type: "f16", M: 8, N: 8, K: 8, subgroupSize: 8 });
});

Deno.test("matrix unit: what isn't offered is an error that names what is", () => {
  const refused = (type: MatrixType, options: Parameters<typeof choose>[1], message: RegExp) =>
    assert.throws(() => choose(type, options), (error: unknown) => {
      assert.ok(error instanceof GpuUnavailableError);
      assert.match(error.message, message);
      return true;
    });
  refused(
    "bf16",
    {},
    /^products in bf16 on matrix units: Some GPU offers f16→f16 16×16×16, .*expected bf16→f32$/,
  );
  refused("f16", { configs: [config("f16", "f16", 8, 8, 8)] }, /offers f16→f16 8×8×8, expected f16→f32$/);
  refused("f16", { configs: [] }, /offers none, expected f16→f32$/);
  refused("f16", { features: ["subgroups"] }, /has no chromium-experimental-subgroup-matrix, no shader-f16 /);
  refused("f16", { room: 16384 }, /has 16384 bytes of workgroup memory; the kernel needs 25600$/);
  refused("f16", { sizes: [8, 32] }, /has subgroups of 8 to 32; the kernel needs one size$/);
});
