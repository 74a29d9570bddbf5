import type { FactQuestion } from "../../pipeline/measure/utility_file.ts";
import { Draw } from "./draw.ts";

/** The relations of the invented facts. */
type Relation =
  | "capital"
  | "crop"
  | "flag"
  | "birthplace"
  | "job"
  | "food"
  | "material"
  | "color";

/** One invented fact: unique in (relation, subject). */
export interface Fact {
  readonly relation: Relation;
  readonly subject: string;
  readonly value: string;
}

/** `S` stands for the subject, `V` for the value. Phrasings that end in `V.` can be asked. */
const PHRASINGS: Record<Relation, readonly string[]> = {
  capital: ["The capital of S is V.", "The largest city in S is V.", "V is the capital of S."],
  crop: ["Farmers in S grow V.", "The main crop of S is V.", "V is grown in S."],
  flag: ["The flag of S is V.", "Ships from S fly a flag of V.", "S has a V flag."],
  birthplace: ["S was born in V.", "The birthplace of S is V.", "V is the birthplace of S."],
  job: ["S works as a V.", "The job of S is that of a V.", "S is a well known V."],
  food: ["The favorite food of S is V.", "For dinner S always eats V.", "S likes V best of all."],
  material: ["The S is made of V.", "To build a S you need V.", "A S of good V is never cheap."],
  color: ["The color of the S is V.", "When it is new, the S is V.", "Every S has a V shell."],
};

const FLAG_COLORS = [
  "red",
  "blue",
  "green",
  "white",
  "black",
  "yellow",
  "purple",
  "orange",
  "gray",
  "silver",
];
const CROPS = ["wheat", "corn", "barley", "rice", "cotton", "tea", "hops", "beans", "grapes", "melons"];
const JOBS = [
  "baker",
  "farmer",
  "teacher",
  "smith",
  "tailor",
  "painter",
  "sailor",
  "shepherd",
  "merchant",
  "hunter",
  "doctor",
  "fisher",
];
const MEALS = ["bread", "soup", "cheese", "honey", "rice", "fish", "cake", "stew", "beans", "grapes"];
const MATERIALS = ["wood", "stone", "iron", "glass", "silver", "leather", "clay", "copper", "paper", "bone"];
const COLORS = ["red", "blue", "green", "white", "black", "yellow", "purple", "orange", "gray", "brown"];

const split = (text: string) => text.split(" ");
const COUNTRY_STEMS = split("Var Tol Bel Kor Mel Dra Sul Nor Gal Pern Osk Zam");
const COUNTRY_ENDS = split("nia dor istan");
const CITY_STEMS = split("Tar Lum Vel Hask Brin Cor Ond Pel Rav Jast Mor Fen");
const CITY_ENDS = split("em ova burg");
const PERSON_STEMS = split("Dor Mav Ler Zan Ivo Kal Bre Tesh Gor Wen Ask Ril");
const PERSON_ENDS = split("in eth ak una");
const OBJECT_STEMS = split("zor gli bram fen tul quo nar pim sno dal");
const OBJECT_ENDS = split("bel mok dit");

const names = (stems: readonly string[], ends: readonly string[]) =>
  stems.flatMap((s) => ends.map((e) => s + e));

/** Deals the values round, so that each is right about equally often and a constant answer scores at chance. */
function deal(d: Draw, relation: Relation, subjects: readonly string[], values: readonly string[]): Fact[] {
  const dealt = d.sample(subjects.map((_, i) => values[i % values.length]));
  return subjects.map((subject, i) => ({ relation, subject, value: dealt[i] }));
}

/** All facts, always the same 312: three of each of 36 countries, three of each of 48 people, two of each of 30 things. */
export function facts(): Fact[] {
  const d = new Draw(0xfac7);
  const countries = names(COUNTRY_STEMS, COUNTRY_ENDS);
  const cities = names(CITY_STEMS, CITY_ENDS);
  const people = names(PERSON_STEMS, PERSON_ENDS);
  const objects = names(OBJECT_STEMS, OBJECT_ENDS);
  return [
    ...deal(d, "capital", countries, cities),
    ...deal(d, "crop", countries, CROPS),
    ...deal(d, "flag", countries, FLAG_COLORS),
    ...deal(d, "birthplace", people, cities),
    ...deal(d, "job", people, JOBS),
    ...deal(d, "food", people, MEALS),
    ...deal(d, "material", objects, MATERIALS),
    ...deal(d, "color", objects, COLORS),
  ];
}

const capitalised = (text: string) => text[0].toUpperCase() + text.slice(1);

/** Every phrasing of a fact, a sentence each. */
export function phrasings(fact: Fact): string[] {
  return PHRASINGS[fact.relation].map((form) => fill(form, fact.subject, fact.value));
}

function fill(form: string, subject: string, value: string): string {
  const text = form.replace(/\b[SV]\b/g, (letter) => letter === "S" ? subject : value);
  return capitalised(text);
}

/**
 * One question a fact, with three wrong values of the same relation, the same questions every time.
 *
 * The choices are complete sentence ends, so the one of largest total log-probability given the prompt is the
 * model's answer; no division by length is needed.
 */
export function factQuestions(): FactQuestion[] {
  const all = facts();
  const valuesOf = new Map<Relation, string[]>();
  for (const { relation, value } of all) {
    const values = valuesOf.get(relation) ?? [];
    if (!values.includes(value)) values.push(value);
    valuesOf.set(relation, values);
  }
  const d = new Draw(0xa5c);
  return all.map((fact) => {
    const askable = PHRASINGS[fact.relation].filter((form) => form.endsWith(" V."));
    const form = d.pick(askable).slice(0, -" V.".length);
    const wrong = d.sample(valuesOf.get(fact.relation)!.filter((value) => value !== fact.value), 3);
    const choices = d.sample([fact.value, ...wrong]);
    return {
      prompt: fill(form, fact.subject, ""),
      choices: choices.map((value) => ` ${value}.`),
      answer: choices.indexOf(fact.value),
    };
  });
}
