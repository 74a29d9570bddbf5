import { z } from "zod";
import { JsonFileError } from "../../engine/io/json.ts";
import { readJsonAs } from "../../engine/io/json_schema.ts";

/** Folder of the utility files inside a model's; being a subfolder it isn't carried into published models. */
export const UTILITY_FOLDER = "utility";
export const HELD_OUT_FILE = "heldout.json";
export const FACTS_FILE = "facts.json";

/** What the demo model's usefulness is measured on. */
export interface Utility {
  /** Held-out texts: the loss is the mean over all tokens after BOS, of all texts together. */
  readonly heldOut: readonly string[];
  /** Multiple choice: the choice of largest total log-probability after the prompt counts as the answer. */
  readonly questions: readonly FactQuestion[];
}

/** A utility file that is missing, unreadable or not of its schema. */
export class UtilityFileError extends Error {
  override name = "UtilityFileError";
}

/** A multiple-choice question: `prompt + choices[answer]` is true, the other choices are other values of the relation. */
export interface FactQuestion {
  /** Ends without a space. */
  readonly prompt: string;
  /** Each begins with a space and ends with the full stop, so that no choice is a beginning of another. */
  readonly choices: readonly string[];
  /** Index of the right choice. */
  readonly answer: number;
}

const heldOutSchema = z.object({
  format: z.literal("whorl-heldout-1"),
  seed: z.number().int(),
  texts: z.array(z.string().min(1)).min(1),
});

const questionSchema = z.object({
  prompt: z.string().min(1).regex(/\S$/, "must not end with a space"),
  choices: z.array(z.string().regex(/^ \S/, "must begin with one space")).min(2),
  answer: z.number().int().nonnegative(),
}).refine((q) => q.answer < q.choices.length, "answer must be an index into choices")
  .refine((q) => new Set(q.choices).size === q.choices.length, "choices must differ");

const factsSchema = z.object({
  format: z.literal("whorl-facts-1"),
  questions: z.array(questionSchema).min(1),
});

/**
 * Reads the utility files beside a demo model.
 *
 * @param modelDir The model folder; the files are in its `utility/`.
 * @throws UtilityFileError naming the file and the field.
 */
export async function loadUtility(modelDir: string): Promise<Utility> {
  const folder = `${modelDir}/${UTILITY_FOLDER}`;
  const heldOut = await read(`${folder}/${HELD_OUT_FILE}`, heldOutSchema);
  const facts = await read(`${folder}/${FACTS_FILE}`, factsSchema);
  return { heldOut: heldOut.texts, questions: facts.questions };
}

async function read<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.infer<Schema>> {
  try {
    return await readJsonAs(path, schema, { what: "the utility file" });
  } catch (cause) {
    if (cause instanceof JsonFileError) throw new UtilityFileError(cause.message, { cause });
    throw cause;
  }
}
