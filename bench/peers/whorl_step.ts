/** Our own side of the step benchmark, in a process of its own as the peers are. */
import { parseArgs } from "node:util";
import { Model, Trainer } from "../../mod.ts";
import { openGpu } from "../../pipeline/gpu/open.ts";
import { randomFingerprints, withRandomModel } from "../demo_shape.ts";
import { servePeer } from "./peer_loop.ts";

const { values: flags } = parseArgs({
  options: {
    fingerprints: { type: "string", default: "128" },
    tokens: { type: "string", default: "18" },
    steps: { type: "string", default: "5" },
    paced: { type: "boolean", default: false },
  },
});
const [count, tokens] = [Number(flags.fingerprints), Number(flags.tokens)];

await withRandomModel(async (dir) => {
  using gpu = await openGpu();
  using model = await Model.load(gpu, dir);
  using trainer = new Trainer(model, { learningRate: 1e-5, weightDecay: 1e-4, totalSteps: 1e6 });
  const examples = randomFingerprints(count, tokens);
  await servePeer(
    {
      peer: "Whorl",
      parameters: model.parameters.all.reduce((sum, { count }) => sum + count, 0),
      fingerprints: count,
      // The last token of an example is only a label.
      tokens: count * (tokens - 1),
    },
    async () => (await trainer.step(examples)).loss,
    { steps: Number(flags.steps), paced: flags.paced },
  );
});
