// Functions from exp alone: Vulkan lets a GPU's own tanh be off by 2⁻¹¹, and WGSL has no erf. None overflows for a huge
// argument. The coefficients are minimax fits of the relative error (Lawson's method in float64).

// min(x, limit), but NaN stays NaN.
fn bounded(x: f32, limit: f32) -> f32 { return select(x, limit, x > limit); }

// tanh, relative error 3e-7: an odd polynomial (fit 1e-9) where 1 − 2/(e^2x + 1) would cancel.
fn hyperbolic_tangent(x: f32) -> f32 {
  let a = abs(x);
  let square = a * a;
  var p = -0.0062742296;
  p = p * square + 0.0210716724;
  p = p * square - 0.0538523083;
  p = p * square + 0.1333258612;
  p = p * square - 0.3333331756;
  let far = 1.0 - 2.0 / (exp(2.0 * bounded(a, 10.0)) + 1.0);
  let value = select(far, a + a * (square * p), a < 0.55);
  return select(value, -value, x < 0.0);
}

// 1 − tanh(x)², without the cancellation where tanh is near ±1.
fn hyperbolic_tangent_slope(x: f32) -> f32 {
  let e = exp(-2.0 * abs(x));
  return 4.0 * e / ((1.0 + e) * (1.0 + e));
}

// e^(−x²/2), exactly 0 beyond 20.
fn bell(x: f32) -> f32 {
  let a = bounded(abs(x), 20.0);
  return exp(-0.5 * a * a);
}

// Φ(x) = (1 + erf(x/√2))/2, absolute error 1.3e-7, and relative 1e-6 down to x = −5: the smaller tail is bell(x)·t·P(u)
// with t = 1/(1 + 0.26·|x|), u = 1 − t (fit 2.2e-8 of the tail).
fn normal_distribution(x: f32) -> f32 {
  let a = 0.26 * bounded(abs(x), 20.0);
  let t = 1.0 / (1.0 + a);
  let u = a * t;
  var p = 0.0308718224;
  p = p * u - 0.0923934722;
  p = p * u + 0.037398952;
  p = p * u + 0.1420217563;
  p = p * u - 0.0346458655;
  p = p * u - 0.5745233099;
  p = p * u + 1.1294243563;
  p = p * u - 1.0343926723;
  p = p * u + 0.5;
  let tail = bell(x) * t * p;
  return select(1.0 - tail, tail, x < 0.0);
}

// 1/(1 + e^−x) without e^x for a large x.
fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(1.0, e, x < 0.0) / (1.0 + e);
}

// σ(x)·(1 − σ(x)), the derivative of σ, accurate in its tails.
fn sigmoid_slope(x: f32) -> f32 {
  let e = exp(-abs(x));
  return e / ((1.0 + e) * (1.0 + e));
}
