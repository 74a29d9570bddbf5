/** From measured times of GEMM tiles to the rules of engine/ops/gemm_table.ts, and that file's text. */
import { type GemmTable, type GemmTile, tileByRules, type TileRule } from "../engine/ops/matmul.ts";

/** Milliseconds of a product by tile; C is [M, N]. */
export interface TimedProduct {
  M: number;
  N: number;
  ms: Readonly<Partial<Record<GemmTile, number>>>;
}

/** Where a rule may draw its line. */
export interface Thresholds {
  maxRows: readonly number[];
  minWorkgroups: readonly number[];
}

/** A rule stands for one more pipeline to compile: without it, so many products must be so much slower. */
const PAYS = 1.15;
const LEAST_PRODUCTS = 3;

/** Of all lists of up to three rules, each of which {@link PAYS}, the one with the least mean logarithm of time. */
export function fitTileRules(
  products: readonly TimedProduct[],
  tiles: readonly GemmTile[],
  { maxRows, minWorkgroups }: Thresholds,
): TileRule[] {
  const conditions = [
    ...maxRows.map((maxRows) => ({ maxRows })),
    ...minWorkgroups.map((minWorkgroups) => ({ minWorkgroups })),
  ];
  const first = tiles.flatMap((tile) => conditions.map((condition): TileRule => ({ tile, ...condition })));
  const extend = (lists: TileRule[][]) =>
    first.flatMap((rule) => lists.filter(([next]) => next.tile !== rule.tile).map((list) => [rule, ...list]));
  const one = tiles.map((tile): TileRule[] => [{ tile }]);
  const two = extend(one);
  const cost = (rules: TileRule[]) => products.reduce((sum, product) => sum + logTime(rules, product), 0);
  return [...one, ...two, ...extend(two)]
    .map((rules) => ({ rules, cost: cost(rules) }))
    .filter(({ cost }) => cost < Infinity)
    .sort((a, b) => a.cost - b.cost)
    .find(({ rules }) => rules.slice(0, -1).every((_, at) => pays(rules, at, products)))!.rules;
}

function pays(rules: readonly TileRule[], at: number, products: readonly TimedProduct[]): boolean {
  const without = rules.toSpliced(at, 1);
  const losses = products.filter(({ M, N }) => tileByRules(rules, M, N) !== tileByRules(without, M, N))
    .map((product) => logTime(without, product) - logTime(rules, product));
  const loss = losses.reduce((sum, value) => sum + value, 0);
  return losses.length >= LEAST_PRODUCTS && loss >= losses.length * Math.log(PAYS);
}

function logTime(rules: readonly TileRule[], { M, N, ms }: TimedProduct): number {
  return Math.log(ms[tileByRules(rules, M, N)] ?? Infinity);
}

/** The text of engine/ops/gemm_table.ts. */
export function tableSource(table: GemmTable): string {
  const rule = ({ tile, maxRows, minWorkgroups }: TileRule) => {
    const fields = Object.entries({ maxRows, minWorkgroups }).filter(([, value]) => value !== undefined);
    return `{ ${
      [`tile: ${JSON.stringify(tile)}`, ...fields.map(([name, value]) => `${name}: ${value}`)].join(", ")
    } }`;
  };
  const lines = Object.entries(table).flatMap(([name, { measured, rules }]) => [
    `  ${name}: {`,
    `    measured: ${JSON.stringify(measured)},`,
    "    rules: {",
    ...Object.entries(rules).flatMap(([form, list]) => {
      const line = `      ${JSON.stringify(form)}: [${list.map(rule).join(", ")}],`;
      if (line.length <= LINE_WIDTH) return [line];
      return [`      ${JSON.stringify(form)}: [`, ...list.map((one) => `        ${rule(one)},`), "      ],"];
    }),
    "    },",
    "  },",
  ]);
  return `${HEADER}export const GEMM_TABLE = {\n${lines.join("\n")}\n} as const;\n`;
}

/** As `deno fmt` breaks lines. */
const LINE_WIDTH = 110;

const HEADER = `/**
 * Which tile a GEMM takes, as \`deno task bench -- tune\` measured it and wrote it here. By class of adapter, then by layout
 * and how B is stored: the first rule that holds for C's [M, N] wins. K doesn't matter for the choice.
 */
`;
