import type { LanguageModel } from "../../engine/language_model.ts";
import { OBJECTIVES } from "./list.ts";
import type { Objective, ObjectiveContext, ObjectiveKind } from "./objective.ts";

/** Objectives of a run, prepared; the model uses their tables until they are disposed of. */
export class PreparedObjectives implements Disposable {
  constructor(readonly model: LanguageModel, readonly list: readonly Objective[]) {}

  dispose(): void {
    this.model.training.useSoftTables(undefined);
    this.list.forEach((objective) => objective.dispose?.());
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What {@linkcode prepareObjectives} may be told. */
export interface PrepareObjectivesOptions {
  /** Default {@linkcode OBJECTIVES}. */
  kinds?: readonly ObjectiveKind[] | undefined;
  /** Hears what is done, where it takes time. */
  onPhase?: (name: string) => void;
}

/**
 * Prepares the objectives that a run's settings ask for, one after the other.
 * @throws TypeError when two of them have tables of soft targets: a pass reads one.
 */
export async function prepareObjectives(
  context: ObjectiveContext,
  { kinds = OBJECTIVES, onPhase }: PrepareObjectivesOptions = {},
): Promise<PreparedObjectives> {
  const { model, settings } = context;
  const list: Objective[] = [];
  const prepared = new PreparedObjectives(model, list);
  try {
    for (const kind of kinds.filter((kind) => kind.isActive(settings))) {
      const phase = kind.phase?.(context);
      if (phase !== undefined) onPhase?.(phase);
      list.push(await kind.prepare(context));
    }
    const [first, second] = list.filter(({ tables }) => tables);
    if (second) {
      throw new TypeError(
        `expected at most one objective with tables of soft targets, found ${first!.name} and ${second.name}`,
      );
    }
    if (first) model.training.useSoftTables(first.tables);
    return prepared;
  } catch (error) {
    prepared.dispose();
    throw error;
  }
}
