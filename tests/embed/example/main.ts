// Teaches a model one answer: deno run -A main.ts MODEL_FOLDER NEW_FOLDER
import { type Example, Model, openGpu, Trainer } from "@whorl/whorl";

const [source, target] = Deno.args;
const gpu = await openGpu();
const model = await Model.load(gpu, source);

// Token ids of one text; only the last token is learned (−100 = not supervised, labels are not shifted).
const example: Example = { ids: [1, 2, 3, 4], labels: [-100, -100, -100, 4] };
const prompt = example.ids.slice(0, 3);

async function answer(): Promise<number> {
  const V = model.spec.vocabulary;
  const [logits] = await model.logits([prompt]); // [T·V], one row of logits a position
  const last = logits.subarray((prompt.length - 1) * V);
  return last.indexOf(Math.max(...last));
}

const { loss, gradients } = await model.lossAndGradients([example]);
console.log(`loss ${loss.toFixed(3)}, ${gradients.size} gradients, answer ${await answer()}`);

const trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 20, schedule: "constant" });
for (let step = 0; step < 20; step++) {
  const { loss, gradNorm } = await trainer.step([example]);
  if (step % 5 === 4) {
    console.log(`step ${step + 1}: loss ${loss.toFixed(3)}, gradient norm ${gradNorm.toFixed(3)}`);
  }
}
await trainer.average(0.1); // a tenth of the way back to the weights it started from
console.log(`answer ${await answer()}`);
await model.save(target);

trainer.dispose();
model.dispose();
gpu.dispose();
