import type { Activation } from "../../engine/models/spec.ts";
import { activationBackward, activationForward } from "../../engine/ops/activation.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import * as reference from "../reference/activation.ts";
import { float64 } from "../reference/linear_algebra.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };
const KINDS: Activation[] = ["silu", "gelu", "gelu_tanh"];

/** Error bounds of act(x) and act'(x): shares of their terms, whose sum may cancel. */
function bounds(kind: Activation, x: number): { value: number; slope: number } {
  // exp of a rounded argument is off by that argument times U, and the functions made of it by no more; a handful of
  // roundings beside it. What is below the smallest normal number may be flushed to zero.
  if (kind === "silu") {
    const sigmoid = 1 / (1 + Math.exp(-x));
    const relative = (8 + 2 * Math.abs(x)) * U;
    return {
      value: relative * Math.abs(x) * sigmoid + 1e-36,
      slope: relative * sigmoid * (1 + Math.abs(x)) + 1e-36,
    };
  }
  // Φ is off by 1.3e-7 (shaders/math.wgsl), its tail by 1e-6 of itself; the tanh form's σ(v) by |v|·U of its tail.
  const a = Math.abs(x);
  const tail = Math.exp(-Math.min(a * a / 2, 600));
  const share = Math.min(1.3e-7, 2e-6 * tail) + (x > 0 ? U : 0);
  return {
    value: a * share + 2 * U * (x > 0 ? a : 0) + 1e-36,
    slope: share + 2 * U + (1 + a ** 3) * 3e-6 * tail + 1e-36,
  };
}

async function check(kind: Activation, gated: boolean, rows: number, columns: number, gate: Float32Array) {
  const random = new Random(rows * columns);
  const up = random.normal(gate.length);
  const dy = random.normal(gate.length);
  const width = gated ? 2 * columns : columns;
  const x = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    x.set(gate.subarray(row * columns, (row + 1) * columns), row * width);
    if (gated) x.set(up.subarray(row * columns, (row + 1) * columns), row * width + columns);
  }
  using test = new OpTest(gpu, target);
  const y = test.output("y", gate.length);
  const dx = test.inout("dx", x);
  activationForward(test.recorder, rows, columns, { kind, gated }, { x: test.input("x", x), y });
  activationBackward(test.recorder, rows, columns, { kind, gated }, { dy: test.input("dy", dy), x: dx });
  await test.run();
  const args = [float64(gate), gated ? float64(up) : undefined] as const;
  const name = `${kind} ${gated ? "gated" : "alone"} ${rows}×${columns}`;
  const bound = Array.from(gate, (g) => bounds(kind, g));
  const factor = (i: number) => gated ? Math.abs(up[i]) : 1;
  const expected = reference.activationForward(kind, ...args);
  const yBound = expected.map((v, i) => bound[i].value * factor(i) + U * Math.abs(v) + 1e-36);
  assertWithin(name, test.floats(y), expected, yBound);
  const { dGate, dUp } = reference.activationBackward(kind, float64(dy), ...args);
  const found = test.floats(dx);
  const pick = (shift: number) =>
    gate.map((_, i) => found[Math.floor(i / columns) * width + shift + i % columns]);
  const slopeBound = dGate.map((v, i) =>
    bound[i].slope * Math.abs(dy[i]) * factor(i) + 3 * U * Math.abs(v) + 1e-36
  );
  assertWithin(`${name} dgate`, pick(0), dGate, slopeBound);
  if (dUp) {
    const upBound = dUp.map((v, i) => bound[i].value * Math.abs(dy[i]) + 2 * U * Math.abs(v) + 1e-36);
    assertWithin(`${name} dup`, pick(columns), dUp, upBound);
  }
  if (gate.some(Number.isNaN)) {
    assertSomeNaN(name, test.floats(y));
    assertSomeNaN(`${name} dgate`, pick(0));
  }
}

for (const kind of KINDS) {
  for (const gated of [true, false]) {
    Deno.test(`${kind} ${gated ? "gated" : "alone"}: forward and backward, far arguments too, NaN out`, async () => {
      for (const [rows, columns] of [[1, 1], [3, 7], [65, 67], [1, 64], [9, 68]]) {
        const gate = new Random(rows * columns + 1).normal(rows * columns, 4);
        [-100, 100, -88, 30, -30, 0, -12, 12, NaN, -13.5, 1e-20].forEach((value, i) => {
          if (i < gate.length - 1) gate[i] = value;
        });
        await check(kind, gated, rows, columns, gate);
      }
    });
  }

  Deno.test(`${kind}: a dense grid around every bend, and huge arguments`, async () => {
    const step = 1 / 512;
    const gate = Float32Array.from({ length: 30 / step }, (_, i) => (i - 15 / step) * step);
    await check(kind, false, 1, gate.length, gate);
    const huge = Float32Array.from([1e4, 1e13, 1e19, 1e20, 3e38].flatMap((v) => [v, -v]));
    await check(kind, false, 1, huge.length, huge);
  });
}

coverageTest(
  gpu,
  "activation",
  (check) => Deno.test("activation: every kernel ran on a full workgroup", check),
);
