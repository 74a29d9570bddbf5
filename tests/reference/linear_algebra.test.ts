import assert from "node:assert/strict";
import { assertMaxAbs } from "../compare.ts";
import { Random } from "../random.ts";
import { assertDerivative, dot } from "./finite_difference.ts";
import {
  float64,
  linearBackward,
  linearForward,
  matmulNN,
  matmulNT,
  matmulTN,
  type Matrix,
  transpose,
} from "./linear_algebra.ts";

/** A [rows, columns] window, at an odd offset, of a wider random matrix. */
function window(random: Random, rows: number, columns: number): Matrix {
  const stride = columns + 3;
  return { data: float64(random.normal(5 + rows * stride)), stride, offset: 5 };
}

const at = (x: Matrix, i: number, j: number) => x.data[(x.offset ?? 0) + i * x.stride + j];

Deno.test("matrix products write, or add to, exactly the window of C", () => {
  const random = new Random(1);
  const [m, n, k] = [3, 7, 5];
  const products = [
    {
      multiply: matmulNN,
      a: [m, k],
      b: [k, n],
      term: (a: Matrix, b: Matrix, i: number, j: number, p: number) => at(a, i, p) * at(b, p, j),
    },
    {
      multiply: matmulNT,
      a: [m, k],
      b: [n, k],
      term: (a: Matrix, b: Matrix, i: number, j: number, p: number) => at(a, i, p) * at(b, j, p),
    },
    {
      multiply: matmulTN,
      a: [k, m],
      b: [k, n],
      term: (a: Matrix, b: Matrix, i: number, j: number, p: number) => at(a, p, i) * at(b, p, j),
    },
  ];
  for (const { multiply, a: [aRows, aColumns], b: [bRows, bColumns], term } of products) {
    for (const accumulate of [false, true]) {
      const [a, b, c] = [
        window(random, aRows, aColumns),
        window(random, bRows, bColumns),
        window(random, m, n),
      ];
      const expected = c.data.slice();
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = accumulate ? at(c, i, j) : 0;
          for (let p = 0; p < k; p++) sum += term(a, b, i, j, p);
          expected[5 + i * c.stride + j] = sum;
        }
      }
      multiply(c, a, b, { m, n, k }, accumulate);
      assertMaxAbs(`${multiply.name} accumulate ${accumulate}`, c.data, expected, 1e-14);
    }
  }
});

Deno.test("transpose", () => {
  const x = Float64Array.of(1, 2, 3, 4, 5, 6);
  assert.deepEqual(transpose({ data: x, stride: 3 }, 2, 3).data, Float64Array.of(1, 4, 2, 5, 3, 6));
});

Deno.test("linear backward agrees with finite differences", () => {
  const random = new Random(2);
  const [rows, inputs, outputs] = [3, 5, 6];
  const x = float64(random.normal(rows * inputs));
  const weight = float64(random.normal(outputs * inputs));
  const dy = float64(random.normal(rows * outputs));
  const f = () => dot(linearForward(x, weight, rows), dy);
  const { dx, dWeight } = linearBackward(dy, x, weight, rows);
  assertDerivative("dx", dx, x, f);
  assertDerivative("dWeight", dWeight, weight, f);
});
