// The engine alone, on token ids: deno run -A main.ts MODEL_FOLDER NEW_FOLDER
import { adamw, type Example, Model, openGpu, type Optimizer, Trainer } from "@whorl/whorl/engine";

const [source = "model", target = "taught"] = Deno.args;
using gpu = await openGpu();
using model = await Model.load(gpu, source);
const example: Example = { ids: [1, 2, 3, 4], labels: [-100, -100, -100, 4] };
const prompt = example.ids.slice(0, 3);

const optimizer: Optimizer = adamw({ betas: [0.9, 0.99], epsilon: 1e-8, weightDecay: 0 });
using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 20, schedule: "constant", optimizer });
for (let step = 0; step < 20; step++) await trainer.step([example]);
const [scores = []] = await model.score([example]);
console.log(`log-probability ${scores[0]?.logProbability.toFixed(3)}`);

const [ids] = await model.generate([prompt], { maxNewTokens: 1, stop: [] });
const [probabilities] = await model.nextTokenProbabilities([prompt]);
console.log(`answer ${ids}, probability ${probabilities?.[4]?.toFixed(3)} of ${model.spec.vocabulary}`);
await model.save(target);
