import assert from "node:assert/strict";
import { join } from "node:path";
import { FileWriteError } from "../../../engine/io/atomic.ts";
import type { FinetuneEvent } from "../../../pipeline/run/events.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import { InputsChangedError } from "../../../pipeline/run/opened_files.ts";
import { ResultsNotSavedError, ResultsWriter } from "../../../pipeline/run/results.ts";
import { saveSomewhere } from "../../../pipeline/run/saving.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { names, withFolder } from "../../io/support.ts";

const gpu = await sharedGpu();

/** A disk that is full: where its names say so. */
function saving(full: (dir: string) => boolean) {
  const tried: string[] = [];
  const save = async (writer: ResultsWriter) => {
    tried.push(writer.outputDir);
    await writer.writeLog([{ epoch: 1 }]);
    if (full(writer.outputDir)) throw new FileWriteError(writer.modelFolder, "no space left", "ENOSPC");
    return "saved";
  };
  return { tried, save };
}

Deno.test("what one disk refuses goes to the next: rescue_dir, then where somebody says", async () => {
  await withFolder(async (dir) => {
    const [a, b, c] = ["a", "b", "c"].map((name) => join(dir, name));
    {
      using open = new DisposableStack();
      const first = open.use(await ResultsWriter.open(a, "h", false));
      const { tried, save } = saving((dir) => dir !== c);
      const errors: string[] = [];
      // Once more the same, then a path that no folder can be made at, then one that takes it.
      const answers = [a, join(dir, "file", "x"), c];
      await Deno.writeTextFile(join(dir, "file"), "");
      const onRefused = (error: Error) => {
        errors.push(error.name);
        return Promise.resolve(answers.shift());
      };
      const { writer, saved, refused } = await saveSomewhere(first, save, { rescueDir: b, onRefused, open });
      assert.deepEqual([saved, writer.outputDir, tried], ["saved", c, [a, b, a, c]]);
      assert.equal(refused?.name, "ResultsError");
      assert.deepEqual(errors, ["FileWriteError", "FileWriteError", "ResultsError"]);
      await writer.commit();
    }
    assert.deepEqual(await Promise.all([a, b, c].map(names)), [[], [], ["h"]]);
  });
});

Deno.test("when no place takes it, what could be saved is kept, and later runs leave it alone", async () => {
  await withFolder(async (dir) => {
    const [a, b] = ["a", "b"].map((name) => join(dir, name));
    for (const kept of ["h.incomplete", "h.incomplete-2"]) {
      using open = new DisposableStack();
      const first = open.use(await ResultsWriter.open(a, "h", false));
      const refused = saveSomewhere(first, saving(() => true).save, { rescueDir: b, open });
      await assert.rejects(refused, (error) => {
        assert.ok(error instanceof ResultsNotSavedError);
        assert.deepEqual(error.kept, [join(a, kept), join(b, kept)]);
        assert.match(
          error.message,
          /no space left\. The trained model is not whole on the disk.* --rescue_dir/,
        );
        return true;
      });
      assert.deepEqual(await names(join(a, kept)), ["log.jsonl"]);
    }
    // An error of another kind passes, and an interruption ends the search.
    using open = new DisposableStack();
    const first = open.use(await ResultsWriter.open(a, "h", false));
    const lost = saveSomewhere(first, () => Promise.reject(new Error("device lost")), { rescueDir: b, open });
    await assert.rejects(lost, /device lost/);
    const signal = AbortSignal.abort(new Error("stop"));
    await assert.rejects(
      saveSomewhere(first, saving(() => true).save, { rescueDir: b, open, signal }),
      /stop/,
    );
  });
});

Deno.test("a model that is saved outlives an error after that", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const events: FinetuneEvent[] = [];
  const run = finetune(configOf(tiny), {
    gpu,
    onEvent: (event) => {
      events.push(event);
      if (event.type === "phase" && event.name === "measuring after") throw new Error("out of luck");
    },
  });
  await assert.rejects(run, /out of luck/);
  const event = events.at(-1)!;
  assert.ok(event.type === "kept");
  assert.match(event.path, /[0-9a-f]{16}\.incomplete$/);
  assert.deepEqual(await names(event.path), ["final_model", "log.jsonl", "secret"]);
  assert.ok((await names(join(event.path, "final_model"))).includes("model.safetensors"));
});

Deno.test("files that change during a run are refused before training, and named after it", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const touch = async (path: string) => await Deno.writeTextFile(path, await Deno.readTextFile(path) + " ");
  const paths = [join(tiny.model, "tokenizer_config.json"), tiny.fingerprints];
  for (const path of paths) {
    let edit = Promise.resolve();
    const run = finetune(configOf(tiny), {
      gpu,
      onEvent: ({ type }) => void (type === "memory" && (edit = touch(path))),
    });
    await assert.rejects(run, (error) => {
      assert.ok(error instanceof InputsChangedError);
      assert.deepEqual(error.files, [path]);
      return true;
    });
    await edit;
  }
  assert.deepEqual(await names(tiny.path("results")), []);

  const added = join(tiny.model, "chat_template.jinja");
  const events: FinetuneEvent[] = [];
  const result = await finetune(configOf(tiny), {
    gpu,
    onEvent: (event) => {
      events.push(event);
      if (event.type !== "epoch" || event.log.epoch !== 1) return;
      const { size } = Deno.statSync(paths[0]);
      Deno.truncateSync(paths[0], size - 1);
      Deno.writeTextFileSync(added, "{{ x }}");
    },
  });
  assert.deepEqual(result.changed, [paths[0], added]);
  assert.deepEqual(events.flatMap((event) => event.type === "changed" ? event.files : []), result.changed);
  assert.deepEqual(
    JSON.parse(await Deno.readTextFile(join(result.results, "config.json"))).changed,
    result.changed,
  );
});

function configOf(tiny: TinyModel) {
  return {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
    num_train_epochs: 2,
    anchor_strength: 0,
  };
}
