/** Pairwise testing: few combinations of settings that together hold every pair of values of two settings. */

/** Values of each setting. */
export type Factors = Readonly<Record<string, readonly (string | number | boolean)[]>>;

/** One value for each setting. */
type Combination<F extends Factors> = { [K in keyof F]: F[K][number] };

/** The pairs that a combination holds, as texts. */
export function pairsOf(combination: Readonly<Record<string, unknown>>): string[] {
  const entries = Object.entries(combination);
  return entries.flatMap(([a, x], i) => entries.slice(i + 1).map(([b, y]) => `${a}=${x} ${b}=${y}`));
}

/** Every pair of values of two settings. */
export function allPairs(factors: Factors): Set<string> {
  const names = Object.keys(factors);
  return new Set(
    names.flatMap((a, i) =>
      names.slice(i + 1).flatMap((b) =>
        factors[a].flatMap((x) => factors[b].map((y) => `${a}=${x} ${b}=${y}`))
      )
    ),
  );
}

/**
 * Combinations that cover all pairs: each begins with a pair that is still missing, and takes setting by setting the value
 * that adds the most missing pairs. Not the fewest, but always the same.
 */
export function pairwise<F extends Factors>(factors: F): Combination<F>[] {
  const missing = allPairs(factors);
  const combinations: Combination<F>[] = [];
  while (missing.size) {
    const [pair] = missing;
    const chosen: Record<string, unknown> = {};
    for (const part of pair.split(" ")) {
      const [name, text] = part.split("=");
      chosen[name] = factors[name].find((value) => String(value) === text);
    }
    for (const [name, values] of Object.entries(factors)) {
      if (name in chosen) continue;
      const gain = (value: unknown) =>
        pairsOf(inOrder(factors, { ...chosen, [name]: value })).filter((pair) => missing.has(pair)).length;
      // Where no value adds more than another, they take turns.
      const turn = combinations.length % values.length;
      const rotated = [...values.slice(turn), ...values.slice(0, turn)];
      chosen[name] = rotated.reduce((best, value) => gain(value) > gain(best) ? value : best);
    }
    const combination = inOrder(factors, chosen) as Combination<F>;
    for (const covered of pairsOf(combination)) missing.delete(covered);
    combinations.push(combination);
  }
  return combinations;
}

/** The settings in the order of `factors`, which the texts of pairs follow. */
function inOrder(factors: Factors, values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.keys(factors).filter((name) => name in values).map((name) => [name, values[name]]),
  );
}
