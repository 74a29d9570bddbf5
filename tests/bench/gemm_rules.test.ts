import assert from "node:assert/strict";
import { fitTileRules, tableSource, type TimedProduct } from "../../bench/gemm_rules.ts";
import { GEMM_TABLE } from "../../engine/ops/gemm_table.ts";
import { GEMM_TILES, type GemmTile } from "../../engine/ops/matmul.ts";

const ROWS = [1, 4, 8, 16, 32, 64, 2176];
const none = { maxRows: [], minWorkgroups: [] };

/** Products of 1 … 2,176 rows and three widths whose times `ms` gives. */
function products(ms: (tile: GemmTile, m: number, n: number) => number, tiles: GemmTile[]): TimedProduct[] {
  return ROWS.flatMap((M) =>
    [128, 384, 2048].map((N) => ({
      M,
      N,
      ms: Object.fromEntries(tiles.map((tile) => [tile, ms(tile, M, N)])),
    }))
  );
}

/** Time of whole tiles: rows beyond C's are computed for nothing. */
function wasteful(tile: GemmTile, m: number, n: number): number {
  const [rows, columns] = GEMM_TILES[tile].outputs;
  const perOutput = tile === "shuffle" ? 1 : 2;
  return Math.ceil(m / rows) * rows * Math.ceil(n / columns) * columns * perOutput;
}

Deno.test("tile rules: the small tile up to the row count where the large one wastes less", () => {
  const tiles: GemmTile[] = ["shuffle", "shuffleFew"];
  const rules = fitTileRules(products(wasteful, tiles), tiles, { maxRows: ROWS, minWorkgroups: [] });
  // 8 rows: 8·2 against 32; 16 rows: equal
  assert.deepEqual(rules, [{ tile: "shuffleFew", maxRows: 8 }, { tile: "shuffle" }]);
});

Deno.test("tile rules: large tiles where they give enough workgroups", () => {
  const tiles: GemmTile[] = ["large", "medium", "small"];
  const fills = (tile: GemmTile, m: number, n: number) => {
    const [rows, columns] = GEMM_TILES[tile].outputs;
    return Math.ceil(m / rows) * Math.ceil(n / columns) >= 200;
  };
  const list = [8, 64, 512, 2048, 8192].flatMap((M) =>
    [512, 1024, 2048, 4096].map((N) => {
      const best = tiles.find((tile) => fills(tile, M, N)) ?? "small";
      return { M, N, ms: Object.fromEntries(tiles.map((tile) => [tile, tile === best ? 1 : 2])) };
    })
  );
  const thresholds = { maxRows: [], minWorkgroups: [50, 200, 800] };
  assert.deepEqual(fitTileRules(list, tiles, thresholds), GEMM_TABLE.hardware.rules.NT);
});

Deno.test("tile rules: a tile that gains less than 15 % over all that would change isn't worth its pipeline", () => {
  const tiles: GemmTile[] = ["shuffle", "shuffleFew"];
  const fit = (ms: (tile: GemmTile, m: number, n: number) => number) =>
    fitTileRules(products(ms, tiles), tiles, { maxRows: ROWS, minWorkgroups: [] });
  const gaining = (factor: number, where: (m: number, n: number) => boolean) =>
    fit((tile, m, n) => where(m, n) ? (tile === "shuffleFew" ? 1 : factor) : tile === "shuffle" ? 1 : 2);
  assert.deepEqual(gaining(1.1, (m) => m <= 16), [{ tile: "shuffle" }]);
  assert.deepEqual(gaining(1.2, (m) => m <= 16), [{ tile: "shuffleFew", maxRows: 16 }, { tile: "shuffle" }]);
  assert.deepEqual(gaining(1.6, (m, n) => m === 1 && n > 128), [{ tile: "shuffle" }]);
});

Deno.test("tile rules: without thresholds the fastest tile alone, and none that wasn't measured everywhere", () => {
  const tiles: GemmTile[] = ["register", "shuffle"];
  const list = products((tile) => tile === "shuffle" ? 1 : 2, tiles);
  assert.deepEqual(fitTileRules(list, tiles, none), [{ tile: "shuffle" }]);
  const partial = list.map((product, i) => i ? product : { ...product, ms: { register: 2 } });
  assert.deepEqual(fitTileRules(partial, tiles, none), [{ tile: "register" }]);
});

Deno.test("gemm_table.ts is as the tuner writes it", async () => {
  const file = new URL("../../engine/ops/gemm_table.ts", import.meta.url);
  assert.equal(await Deno.readTextFile(file), tableSource(GEMM_TABLE), "run: deno task bench -- tune");
});
