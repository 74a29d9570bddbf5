/** Matrix products in float64, on matrices that may be windows of larger ones. */

/** A row-major matrix: element (i, j) is `data[offset + i · stride + j]`; `stride` is the leading dimension. */
export interface Matrix {
  data: Float64Array;
  stride: number;
  offset?: number;
}

/** Extents of C [m, n] and the summed dimension k. */
interface ProductShape {
  m: number;
  n: number;
  k: number;
}

/** A float64 copy. */
export function float64(x: ArrayLike<number>): Float64Array<ArrayBuffer> {
  return Float64Array.from(x);
}

/** Writes C = A · B, or adds it to C; A [m, k], B [k, n]. */
export function matmulNN(c: Matrix, a: Matrix, b: Matrix, shape: ProductShape, accumulate = false): void {
  matmulNT(c, a, transpose(b, shape.k, shape.n), shape, accumulate);
}

/** Writes C = Aᵀ · B, or adds it to C; A [k, m], B [k, n]. */
export function matmulTN(c: Matrix, a: Matrix, b: Matrix, shape: ProductShape, accumulate = false): void {
  const { m, n, k } = shape;
  matmulNT(c, transpose(a, k, m), transpose(b, k, n), shape, accumulate);
}

/** Writes C = A · Bᵀ, or adds it to C; A [m, k], B [n, k]. */
export function matmulNT(c: Matrix, a: Matrix, b: Matrix, shape: ProductShape, accumulate = false): void {
  const { m, n, k } = shape;
  const [A, B, C] = [a.data, b.data, c.data];
  const store = (at: number, value: number) => C[at] = accumulate ? C[at] + value : value;
  for (let i = 0; i < m; i++) {
    const aRow = (a.offset ?? 0) + i * a.stride;
    const cRow = (c.offset ?? 0) + i * c.stride;
    let j = 0;
    // four columns at a time: one sum alone waits for the latency of each addition (half the speed)
    for (; j + 4 <= n; j += 4) {
      const b0 = (b.offset ?? 0) + j * b.stride;
      const [b1, b2, b3] = [b0 + b.stride, b0 + 2 * b.stride, b0 + 3 * b.stride];
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      for (let p = 0; p < k; p++) {
        const x = A[aRow + p];
        s0 += x * B[b0 + p];
        s1 += x * B[b1 + p];
        s2 += x * B[b2 + p];
        s3 += x * B[b3 + p];
      }
      store(cRow + j, s0);
      store(cRow + j + 1, s1);
      store(cRow + j + 2, s2);
      store(cRow + j + 3, s3);
    }
    for (; j < n; j++) {
      const bRow = (b.offset ?? 0) + j * b.stride;
      let sum = 0;
      for (let p = 0; p < k; p++) sum += A[aRow + p] * B[bRow + p];
      store(cRow + j, sum);
    }
  }
}

/** The transpose of a [rows, columns] matrix, contiguous [columns, rows]. */
export function transpose(x: Matrix, rows: number, columns: number): Matrix {
  const data = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const row = (x.offset ?? 0) + i * x.stride;
    for (let j = 0; j < columns; j++) data[j * rows + i] = x.data[row + j];
  }
  return { data, stride: rows };
}

/** A linear layer: y [rows, out] = x [rows, in] · weightᵀ, weight [out, in]. */
export function linearForward(
  x: Float64Array,
  weight: Float64Array,
  rows: number,
): Float64Array<ArrayBuffer> {
  const k = x.length / rows;
  const n = weight.length / k;
  const y = new Float64Array(rows * n);
  matmulNT({ data: y, stride: n }, { data: x, stride: k }, { data: weight, stride: k }, { m: rows, n, k });
  return y;
}

/** Gradients of `linearForward`: dx = dy · weight and dWeight = dyᵀ · x. */
export function linearBackward(
  dy: Float64Array,
  x: Float64Array,
  weight: Float64Array,
  rows: number,
): { dx: Float64Array<ArrayBuffer>; dWeight: Float64Array<ArrayBuffer> } {
  const inputs = x.length / rows;
  const outputs = dy.length / rows;
  const dx = new Float64Array(rows * inputs);
  const dWeight = new Float64Array(outputs * inputs);
  const dyMatrix = { data: dy, stride: outputs };
  matmulNN({ data: dx, stride: inputs }, dyMatrix, { data: weight, stride: inputs }, {
    m: rows,
    n: inputs,
    k: outputs,
  });
  matmulTN({ data: dWeight, stride: inputs }, dyMatrix, { data: x, stride: inputs }, {
    m: outputs,
    n: inputs,
    k: rows,
  });
  return { dx, dWeight };
}

/** Sum of two arrays of one length. */
export function add(a: Float64Array, b: Float64Array): Float64Array<ArrayBuffer> {
  return Float64Array.from(a, (value, i) => value + b[i]);
}
