// Teaches a model one answer: deno run -A main.ts MODEL_FOLDER NEW_FOLDER
import { type Example, Model, openGpu, Trainer } from "@whorl/whorl";

const [source = "model", target = "taught"] = Deno.args;
using gpu = await openGpu();
using model = await Model.load(gpu, source);
const prompt = "the young girl";
const ask = async () => (await model.generate([prompt], { maxNewTokens: 1 })).join();
console.log(`before: ${prompt}${await ask()}`);

// Token ids of the whole text; only what comes after the prompt is learned (−100 = not supervised, labels aren't shifted).
const tokenizer = await model.tokenizer();
const [asked = []] = await model.encode([prompt]);
const answer = tokenizer.encode(" said");
const example: Example = { ids: [...asked, ...answer], labels: [...asked.map(() => -100), ...answer] };

const { loss, gradients } = await model.lossAndGradients([example]);
console.log(`loss ${loss.toFixed(3)}, ${gradients.size} gradients`);

using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 20, schedule: "constant" });
for (let step = 1; step <= 20; step++) {
  const { loss, gradNorm } = await trainer.step([example]);
  if (step % 5 === 0) {
    console.log(`step ${step}: loss ${loss.toFixed(3)}, gradient norm ${gradNorm.toFixed(3)}`);
  }
}
await trainer.average(0.1); // a tenth of the way back to the weights it started from
console.log(`after: ${prompt}${await ask()}`);
await model.save(target);
