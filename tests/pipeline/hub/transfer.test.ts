import assert from "node:assert/strict";
import { join } from "node:path";
import { HubIntegrityError, HubUnreachableError } from "../../../pipeline/hub/hub.ts";
import { cut, type HubRequest, ranged, TOKEN } from "./server.ts";
import { assertHolds, noise, SMALL, WEIGHTS, withHub } from "./support.ts";
import { fill, names } from "../../io/support.ts";

const MODEL = { ...SMALL, "model.safetensors": WEIGHTS };
const TOTAL = WEIGHTS.byteLength;

/** Answers for the weights, one a request; undefined and those beyond the list are left to the server. */
function answers(list: (((request: HubRequest) => Response) | undefined)[]) {
  let next = 0;
  return (request: HubRequest) => request.host === "storage" ? list[next++]?.(request) : undefined;
}

const ranges = (requests: HubRequest[]) =>
  requests.filter(({ host }) => host === "storage").map(({ range }) => range);

Deno.test("hub transfer: a cut connection is resumed where it broke", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    server.intercept = answers([
      () => cut(WEIGHTS, 0, 100_000),
      () => cut(WEIGHTS, 100_000, 50_000),
    ]);
    const { dir } = await download();
    await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
    assert.deepEqual(ranges(server.requests), [null, "bytes=100000-", "bytes=150000-"]);
    assert.ok((await names(inCache("blobs"))).every((name) => !name.endsWith(".incomplete")));
  });
});

Deno.test("hub transfer: more cuts than retries, but each time further", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = answers(
      Array.from({ length: 4 }, (_, i) => () => cut(WEIGHTS, i * 50_000, 50_000)),
    );
    await download({ retries: 1 });
    assert.equal(ranges(server.requests).length, 5);
  });
});

Deno.test("hub transfer: a server without ranges", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const whole = () => new Response(WEIGHTS);
    server.intercept = answers([() => cut(WEIGHTS, 0, 100_000), whole]);
    const { dir } = await download();
    assert.deepEqual(ranges(server.requests), [null, "bytes=100000-"]);
    await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
  });
});

Deno.test("hub transfer: a server without ranges that always breaks off is given up", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = ({ host }) => host === "storage" ? cut(WEIGHTS, 0, 100_000) : undefined;
    await assert.rejects(download({ retries: 2 }), { name: "HubUnreachableError", message: /3 attempts/ });
    assert.equal(ranges(server.requests).length, 3);
  });
});

Deno.test("hub transfer: a silent connection counts as cut", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = answers([() => cut(WEIGHTS, 0, 100_000, true)]);
    const { dir } = await download({ stallMs: 300 });
    assert.deepEqual(ranges(server.requests), [null, "bytes=100000-"]);
    await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
  });
});

Deno.test("hub transfer: wrong bytes are thrown away and tried once more", async () => {
  const wrong = WEIGHTS.map((byte, i) => i === 123_456 ? byte ^ 1 : byte);
  await withHub(MODEL, async ({ server, download, inCache }) => {
    server.intercept = answers([() => new Response(wrong)]);
    const { dir } = await download();
    await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
    assert.deepEqual(ranges(server.requests), [null, null]);
    assert.equal((await names(inCache("blobs"))).length, 4);
  });
  await withHub(MODEL, async ({ server, download, inCache }) => {
    server.intercept = answers([() => new Response(wrong), () => new Response(wrong)]);
    await assert.rejects(download(), (error) => {
      assert.ok(error instanceof HubIntegrityError);
      assert.match(
        error.message,
        /^model\.safetensors: .*expected the SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}$/,
      );
      assert.ok(error.message.includes(server.etag("model.safetensors")));
      return true;
    });
    assert.equal(ranges(server.requests).length, 2);
    assert.deepEqual(await names(inCache("snapshots", server.commit)), Object.keys(SMALL));
    assert.equal((await names(inCache("blobs"))).length, 3);
    await assert.rejects(download({ offline: true }), HubUnreachableError);
    await download();
  });
});

Deno.test("hub transfer: wrong bytes of a small file are seen by git's hash", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = ({ path }) =>
      path.endsWith("/tokenizer.json") ? new Response('{"model": []}') : undefined;
    await assert.rejects(download(), {
      name: "HubIntegrityError",
      message: /^tokenizer\.json: .*expected the git hash [0-9a-f]{40}, found [0-9a-f]{40}$/,
    });
    assert.ok(!server.asked().includes("model.safetensors"), "weights come after the small files");
  });
});

Deno.test("hub transfer: a partial file with wrong bytes is begun anew", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    await fill(inCache("blobs"), { [`${server.etag("model.safetensors")}.incomplete`]: noise(1000, 9) });
    const { dir } = await download();
    assert.deepEqual(ranges(server.requests), ["bytes=1000-", null]);
    await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
  });
});

Deno.test("hub transfer: a partial file that is complete, or too long", async () => {
  for (const [partial, requests] of [[WEIGHTS, []], [noise(TOTAL + 1, 9), [null]]] as const) {
    await withHub(MODEL, async ({ server, download, inCache }) => {
      await fill(inCache("blobs"), { [`${server.etag("model.safetensors")}.incomplete`]: partial });
      const { dir } = await download();
      assert.deepEqual(ranges(server.requests), requests);
      await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
    });
  }
});

Deno.test("hub transfer: a file that is shorter or longer than listed", async () => {
  for (
    const [stored, found] of [[WEIGHTS.subarray(0, 200_000), /HTTP 416/], [
      noise(TOTAL + 1, 1),
      /more/,
    ]] as const
  ) {
    await withHub(MODEL, async ({ server, download, inCache }) => {
      server.intercept = ({ host, range }) => host === "storage" ? ranged(stored, range) : undefined;
      await assert.rejects(download(), (error) => {
        assert.ok(error instanceof HubIntegrityError);
        assert.match(error.message, /^model\.safetensors: .*expected 300000 bytes/);
        assert.match(error.message, found);
        return true;
      });
      assert.equal((await names(inCache("blobs"))).length, 3);
    });
  }
});

Deno.test("hub transfer: 429 and 503 are tried again", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const refusals = [
      new Response("", { status: 429, headers: { "retry-after": "0" } }),
      new Response("", { status: 429 }),
      new Response("", { status: 503 }),
    ];
    server.intercept = ({ path }) => path.startsWith("/api") ? refusals.shift() : undefined;
    await download();
    assert.equal(refusals.length, 0);
  });
});

Deno.test("hub transfer: what keeps failing is given up; the part stays", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    server.intercept = answers([
      () => cut(WEIGHTS, 0, 100_000),
      ...Array.from({ length: 3 }, () => () => new Response("", { status: 500 })),
    ]);
    await assert.rejects(download({ retries: 2 }), {
      name: "HubUnreachableError",
      message: /some-org\/some-model: model\.safetensors: .*HTTP 500.*\(3 attempts\)/,
    });
    const partial = inCache("blobs", `${server.etag("model.safetensors")}.incomplete`);
    assert.equal((await Deno.stat(partial)).size, 100_000);
    await assert.rejects(download({ offline: true }), HubUnreachableError);
    await download();
    assert.equal(ranges(server.requests).at(-1), "bytes=100000-");
  });
});

Deno.test("hub transfer: an expired storage address is asked for again", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = answers([() => new Response("expired", { status: 403 })]);
    await download();
    assert.equal(server.asked("hub").filter((name) => name === "model.safetensors").length, 2);
  });
});

Deno.test("hub transfer: an abort in the middle keeps the part, and the next call goes on", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    const controller = new AbortController();
    const reason = new Error("stopped by the test");
    server.intercept = answers([() => cut(WEIGHTS, 0, 120_000, true)]);
    const partial = inCache("blobs", `${server.etag("model.safetensors")}.incomplete`);
    const size = () => Deno.stat(partial).then((info) => info.size, () => 0);
    const running = download({ signal: controller.signal });
    const rejection = assert.rejects(running, (error) => error === reason);
    while (await size() < 120_000) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort(reason);
    await rejection;
    assert.equal(await size(), 120_000);
    const seen: number[] = [];
    await download({
      onProgress: ({ file, bytesDone }) => file === "model.safetensors" && seen.push(bytesDone),
    });
    assert.deepEqual(ranges(server.requests), [null, "bytes=120000-"]);
    assert.ok(seen.at(-1)! >= TOTAL);
    await assert.rejects(download({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
  });
});

Deno.test("hub transfer: waits as long as the server asks, and an abort ends the wait", async () => {
  const date = new Date(Date.now() + 200_000).toUTCString();
  const asks: HeadersInit[] = [{ "retry-after": "200" }, { "retry-after": date }, {
    ratelimit: '"api";r=0;t=200',
  }];
  for (const headers of asks) {
    await withHub(MODEL, async ({ server, download }) => {
      const controller = new AbortController();
      server.intercept = () => {
        setTimeout(() => controller.abort(new Error("enough")), 30);
        return new Response("", { status: 429, headers });
      };
      await assert.rejects(download({ signal: controller.signal }), /enough/);
      assert.equal(server.requests.length, 1);
    });
  }
});

Deno.test("hub transfer: two downloads at the same time fetch each file once", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const [one, two] = await Promise.all([download(), download()]);
    assert.deepEqual(one, two);
    await assertHolds(join(one.dir, "model.safetensors"), WEIGHTS);
    assert.deepEqual(server.asked("storage"), ["model.safetensors"]);
  });
});

Deno.test("hub transfer: two downloads where the file system has no locks", async () => {
  const { tryLock } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.tryLock = () => Promise.reject(new Deno.errors.NotSupported("no locks here"));
  try {
    const weights = noise(3_000_000, 4);
    await withHub({ ...SMALL, "model.safetensors": weights }, async ({ server, download, inCache }) => {
      const both = Promise.withResolvers<void>();
      server.intercept = async ({ host }) => {
        if (host !== "storage") return undefined;
        if (server.asked("storage").length === 2) both.resolve();
        await both.promise;
      };
      const [{ dir }] = await Promise.all([download(), download()]);
      await assertHolds(join(dir, "model.safetensors"), weights);
      assert.equal(server.asked("storage").length, 2);
      assert.equal((await names(inCache("blobs"))).length, 4);
    });
  } finally {
    Deno.FsFile.prototype.tryLock = tryLock;
  }
});

Deno.test("hub transfer: the first failure ends the other files", async () => {
  const shards = Object.fromEntries([1, 2, 3].map((n) => [`part-${n}.safetensors`, noise(50_000, n)]));
  const weight_map = Object.fromEntries(Object.keys(shards).map((name) => [name, name]));
  const files = { ...SMALL, ...shards, "model.safetensors.index.json": JSON.stringify({ weight_map }) };
  await withHub(files, async ({ server, download }) => {
    server.intercept = ({ host, path }) => {
      if (host !== "storage") return undefined;
      if (path.endsWith("part-2.safetensors")) return new Response(new Uint8Array(50_000));
      return cut(server.files.get(path.slice(1))!.content, 0, 10_000, true);
    };
    await assert.rejects(download(), { name: "HubIntegrityError", message: /^part-2\.safetensors/ });
  });
});

Deno.test("hub transfer: redirects", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    // As for a repository that was renamed: a relative address, on the same host.
    server.intercept = ({ path, query }) =>
      path.endsWith("/revision/main") && query !== "?renamed"
        ? new Response(null, { status: 307, headers: { location: `${path}?renamed` } })
        : undefined;
    await download({ token: TOKEN });
    assert.equal(server.requests[1].query, "?renamed");
    assert.equal(server.requests[1].authorization, `Bearer ${TOKEN}`);
  });
  await withHub(MODEL, async ({ server, download }) => {
    server.intercept = ({ path }) => new Response(null, { status: 302, headers: { location: path } });
    await assert.rejects(download(), /more than 10 redirects/);
    server.intercept = () => new Response(null, { status: 302, headers: { location: "file:///etc/passwd" } });
    await assert.rejects(download(), /redirects to file:.*not followed/);
  });
});
