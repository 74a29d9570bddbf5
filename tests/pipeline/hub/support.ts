import assert from "node:assert/strict";
import { join } from "node:path";
import { downloadModel, type DownloadModelOptions, type LocalModel } from "../../../pipeline/hub/hub.ts";
import { HubServer } from "./server.ts";
import { withFolder } from "../../io/support.ts";

export const ID = "some-org/some-model";

/** Bytes that differ from place to place. */
export function noise(count: number, seed: number): Uint8Array<ArrayBuffer> {
  let state = seed >>> 0;
  return Uint8Array.from(
    { length: count },
    () => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) >>> 24,
  );
}

export const WEIGHTS = noise(300_000, 1);

/** What every model has. */
export const SMALL = {
  "config.json": '{"model_type": "llama"}',
  "tokenizer.json": '{"model": {}}',
  "tokenizer_config.json": "{}",
};

/** What a test has at hand. */
interface Setting {
  server: HubServer;
  cacheDir: string;
  /** Downloads `model` (default the server's, main) with quick retries. */
  download(options?: Partial<DownloadModelOptions>, revision?: string): Promise<LocalModel>;
  /** Path of the model's folder in the cache, or of something in it. */
  inCache(...parts: string[]): string;
}

/** Runs a test with a server that has the files, and an empty cache. */
export async function withHub(
  files: Record<string, string | Uint8Array<ArrayBuffer>>,
  body: (setting: Setting) => Promise<void>,
): Promise<void> {
  await withFolder(async (cacheDir) => {
    await using server = new HubServer(ID, files);
    await body({
      server,
      cacheDir,
      download: (options, revision) =>
        downloadModel({ id: ID, revision }, {
          endpoint: server.endpoint,
          cacheDir,
          retryDelayMs: 1,
          ...options,
        }),
      inCache: (...parts) => join(cacheDir, "models--some-org--some-model", ...parts),
    });
  });
}

/** Asserts a file's content. Not by deepEqual, which takes minutes to describe how large arrays differ. */
export async function assertHolds(path: string, expected: Uint8Array): Promise<void> {
  const found = await Deno.readFile(path);
  assert.equal(found.byteLength, expected.byteLength);
  assert.equal(found.findIndex((byte, i) => byte !== expected[i]), -1, `first byte of ${path} that differs`);
}

/** An endpoint where nobody listens. */
export function nobody(): string {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return `http://127.0.0.1:${port}`;
}
