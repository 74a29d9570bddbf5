// Run by model_dir.test.ts under `ulimit -f`: saves argument 0 into argument 1 and prints what it throws.
import { openModelDir, saveModelDir } from "../../engine/io/model_dir.ts";

const [from, to] = Deno.args;
const source = await openModelDir(from);
try {
  await saveModelDir(source, to, {
    has: () => true,
    read: (_, __, count) => Promise.resolve(new Float32Array(count)),
  });
  console.log("saved");
} catch (error) {
  console.log(String(error), (error as { code?: string }).code);
} finally {
  source.checkpoint.close();
}
